"""Cohorts that anyone may download."""
