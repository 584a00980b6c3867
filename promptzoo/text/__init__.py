"""Floor 3: words for anatomy and findings, and the towers that turn words into vectors."""
