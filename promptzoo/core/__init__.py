"""Floor 0: errors, geometry, seeding, optional imports and the protocols through which the upper floors meet."""
