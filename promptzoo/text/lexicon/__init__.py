"""Anatomy and findings in people's words, and what a sentence asks for."""
from promptzoo.text.lexicon.concepts import Concept, Match, Resolution
from promptzoo.text.lexicon.known import class_for
from promptzoo.text.lexicon.lexicon import Lexicon
from promptzoo.text.lexicon.resolve import resolve

__all__ = ["Concept", "Lexicon", "Match", "Resolution", "class_for", "resolve"]
