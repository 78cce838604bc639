"""billing-meter: usage records in, a double-entry ledger in pico-USD out."""
