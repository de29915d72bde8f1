"""Tables of runs and comparisons for terminals, notebooks and pages."""
