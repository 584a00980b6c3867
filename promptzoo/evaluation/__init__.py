"""Floor 5: metrics, interaction protocols, peers and the bench, for anything that is a ``Predictor``."""
