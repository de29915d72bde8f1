"""Data poisoning: what a client does to its images and labels before it trains."""
