"""Model poisoning: changes of a client's update before it is sent."""
