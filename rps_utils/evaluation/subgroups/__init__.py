"""The same metrics in parts of the patients: subgroups, and centres."""
