"""``promptzoo simulate-loop``: active learning with a simulated annotator, measured in prompts spent."""
