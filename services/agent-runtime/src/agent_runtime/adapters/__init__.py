"""Ports over SQL and over the bus."""
