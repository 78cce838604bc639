"""Types, tables and decisions; sync and pure."""
