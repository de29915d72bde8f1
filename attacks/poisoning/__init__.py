"""Data poisoning: changes of a client's images and labels before it trains."""
