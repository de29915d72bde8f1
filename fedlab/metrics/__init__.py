"""Scores of reconstructed images and labels, and the rules that judge them."""
