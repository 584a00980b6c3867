"""What maintainers run: start a bundle, verify bundles, make a release (``scripts/new_bundle`` and its siblings)."""
