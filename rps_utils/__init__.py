"""Utilities behind the RPS-LRFS notebooks: what is used twice, or can be silently wrong."""

__version__ = "0.1.0"
