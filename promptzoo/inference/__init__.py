"""Floor 5: predictors, zoom windows and the cache of encoded images."""
from promptzoo.inference.loader import load_predictor

__all__ = ["load_predictor"]
