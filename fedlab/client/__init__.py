"""The client: its role, its local training, its data, and the Flower ClientApp."""
