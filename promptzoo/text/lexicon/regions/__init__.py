"""The shipped concepts, one JSON file per region of the body; see ``../schema.json``."""
