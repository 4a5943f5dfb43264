"""Texts from elsewhere: what may be shown of them, what a cell may hold, what an error may repeat."""
