"""The running experiment: the Federation, its callbacks, and what can be asked of it."""
