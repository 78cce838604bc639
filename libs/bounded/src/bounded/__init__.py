"""Schemas and regular expressions of strangers, checked in bounded time."""
