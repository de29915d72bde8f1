"""The adversary: attacks of a curious server or a malicious client; imports PyTorch only."""
