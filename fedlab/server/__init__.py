"""The Flower server side: the round loop, reply checks, the strategy wrapper, and the attacker."""
