"""Which case next, and why: scores of images, strategies that choose by them, and who is given what."""
