"""The orchestrator: runs of workflow definitions, their history and triggers."""
