"""Digital employees at work: steps in, turns and results out."""
