"""A synthetic CT cohort whose hazard is known."""
