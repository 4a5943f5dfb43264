"""The command ``rps``: a thin front on the package."""
