"""The vendors' protocols; their JSON stops here."""
