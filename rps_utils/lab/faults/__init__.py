"""Faults planted on purpose, each to be named."""
