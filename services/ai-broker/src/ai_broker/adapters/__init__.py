"""Ports over SQL and over vendors."""
