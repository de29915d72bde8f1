"""A thin Flower app around fedlab."""
