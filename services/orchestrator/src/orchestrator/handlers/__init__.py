"""Use cases: load, decide, save; then tell."""
