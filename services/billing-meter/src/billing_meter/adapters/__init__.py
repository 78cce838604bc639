"""Ports over SQL."""
