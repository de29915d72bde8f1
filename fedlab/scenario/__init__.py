"""The whole experiment as data: the scenario file, its tables and its schedule."""
