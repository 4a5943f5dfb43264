"""The pipeline tried on many synthetic cohorts."""
