"""Models that need no network, and the bookkeeping that keeps them honest."""
