"""Scenarios that a person can run and read, and the entry points of `flwr run .`."""
