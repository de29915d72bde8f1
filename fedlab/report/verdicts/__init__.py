"""Verdicts on runs and comparisons: a few sentences for each threat, by stated rules."""
