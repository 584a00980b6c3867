"""Floor 4: whole promptable networks, one per file."""
