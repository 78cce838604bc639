"""Where messages and time come in."""
