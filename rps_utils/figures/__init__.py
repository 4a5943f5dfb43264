"""Results in, figure out: nothing is fitted here."""
