"""What runs at a client: its role, its local training and the Flower ClientApp around them."""
