"""Tables of runs and comparisons, for terminals and notebooks."""
