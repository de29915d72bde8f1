"""Evasion: small changes of an image that make a trained model predict another class."""
