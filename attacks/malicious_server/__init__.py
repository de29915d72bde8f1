"""Malicious servers: they change the network so that an honest client's gradient reveals images.

This is another threat model than that of ``attacks.reconstruction``, whose server only observes. A
client that compares the network with the agreed one detects these changes, so results of the two
threat models never share a row.
"""
