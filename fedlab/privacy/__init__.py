"""Counting what each client's participation cost in privacy."""
