"""Privacy accounting: epsilon of each client over all rounds and mechanisms."""
