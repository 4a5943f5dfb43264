"""The door of the study, and who is in it."""
