"""Pure decisions of the ledger: rating, posting, reversing."""
