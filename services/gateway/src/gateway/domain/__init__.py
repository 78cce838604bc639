"""Pure decisions: admission, keys, what a feed may show."""
