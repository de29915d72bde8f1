"""The adversary: what a curious server or a poisoning client does. Imports torch only."""
