"""Ports over SQL and NATS."""
