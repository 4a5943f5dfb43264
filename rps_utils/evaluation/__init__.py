"""Scores in, rows of `metrics.csv` out."""
