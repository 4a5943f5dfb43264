"""Figures that answer to sliders: each is a pure function from a state to a figure and a sentence."""
