"""A run as one page, beside the paper."""
