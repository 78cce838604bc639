"""dectl: the platform from a terminal; a client of HTTP and NATS, nothing more."""
