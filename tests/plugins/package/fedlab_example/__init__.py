"""One plug-in of each kind, as another package would provide it."""
