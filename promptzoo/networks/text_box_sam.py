"""A SAM-like network and beside it a detector that turns words into its boxes."""
from __future__ import annotations

from typing import Any

from promptzoo.networks.open_vocabulary import OpenVocabularyDetector
from promptzoo.networks.sam import PromptableSam


class TextBoxSam(PromptableSam):
    """:class:`PromptableSam` with an :class:`OpenVocabularyDetector`; images and prompts are answered as there.

    Args:
        picture: side of the pictures that the detector works on, in pixels.
        others: arguments of :class:`PromptableSam`.
    """

    def __init__(self, picture: int = 320, **others: Any) -> None:
        super().__init__(**others)
        self.localiser = OpenVocabularyDetector(picture)
