"""Privacy audits: membership inference, and lower bounds on epsilon from canaries."""
