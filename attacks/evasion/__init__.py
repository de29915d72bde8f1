"""Evasion: small changes of an image that make a finished model take it for something else."""
