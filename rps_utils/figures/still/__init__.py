"""Figures for readers without scripts: a picture, and its description in words."""
