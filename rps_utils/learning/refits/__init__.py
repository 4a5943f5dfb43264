"""The same models fitted again: without a centre, in resamples, with curves, with gaps filled several times."""
