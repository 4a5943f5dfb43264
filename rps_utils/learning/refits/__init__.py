"""The same models fitted again: without a centre, in resamples, with curves for straight lines."""
