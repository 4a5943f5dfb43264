"""Arrays in, numbers out: the statistics of follow-up."""
