"""Prompts: their types (floor 1), simulated annotators (floor 2) and encoders (floor 3).

Only the types are re-exported, so that a viewer or a client can use prompts without torch.
"""
from promptzoo.prompts.types import (
    AttributePrompt,
    Box,
    ClassPrompt,
    Lasso,
    MaskPrompt,
    ObjectInfo,
    Point,
    PromptSet,
    ReferencePrompt,
    Scribble,
    TaskPrompt,
    TextPrompt,
)

__all__ = ["AttributePrompt", "Box", "ClassPrompt", "Lasso", "MaskPrompt", "ObjectInfo", "Point", "PromptSet",
           "ReferencePrompt", "Scribble", "TaskPrompt", "TextPrompt"]
