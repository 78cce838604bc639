"""The ports over SQL and NATS."""
