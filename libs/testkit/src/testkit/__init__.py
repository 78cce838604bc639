"""Servers, fakes, builders and suites that several packages test with."""
