"""Volumes as numbers: radiomic features and what they count."""
