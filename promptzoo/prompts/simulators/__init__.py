"""Floor 2: simulated annotators. Every draw comes from the numpy generator that the caller gives."""
