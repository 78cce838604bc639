"""Fixtures for every test of the repository; each plugin says what it lends."""

pytest_plugins = ["testkit.servers"]
