"""What the orchestrator decides, without I/O, clock or chance."""
