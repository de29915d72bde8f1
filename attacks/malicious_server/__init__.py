"""A malicious server: it changes the network so that an honest client's gradient gives images away.

Another threat model than ``attacks.reconstruction``, whose server only looks: a client that
compares the network with the one agreed on sees these changes, so results of the two never share
a row.
"""
