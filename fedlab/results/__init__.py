"""One folder on disk with everything needed to look at, resume or attack an experiment again."""
