"""How sure a number is: resampling, influence, cut-offs, bounds."""
