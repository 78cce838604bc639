"""gateway: HTTP in, durable tasks and feeds out."""
