"""Figures of runs and comparisons, drawn by matplotlib."""
