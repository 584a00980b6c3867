"""Text towers: texts in, unit vectors out, behind one interface."""
from promptzoo.text.towers.ngrams import NgramTower, shipped_tower
from promptzoo.text.towers.protocol import CachedTower, TextTower, load_tower

__all__ = ["CachedTower", "NgramTower", "TextTower", "load_tower", "shipped_tower"]
