"""How much a client's updates give away, measured: membership tests and lower bounds on epsilon."""
