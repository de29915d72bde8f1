"""Scores of reconstructed images and labels against the true ones, and the rules that judge them."""
