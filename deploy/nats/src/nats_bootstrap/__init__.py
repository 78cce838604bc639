"""Owns everything on NATS that must exist: streams, durables, buckets, users."""
