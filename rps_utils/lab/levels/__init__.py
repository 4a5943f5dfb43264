"""How often tests ring and intervals cover where the truth is known."""
