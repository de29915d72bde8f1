"""Measuring what leaked, what it would mean by chance, and how good the model is."""
