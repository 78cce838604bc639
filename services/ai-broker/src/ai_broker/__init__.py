"""ai-broker: asks vendors for completions and owes a usage record for every call."""
