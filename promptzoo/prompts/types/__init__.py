"""Floor 1: every prompt as a frozen dataclass; numpy only (contract 1)."""
from promptzoo.prompts.types.codec import SCHEMA_VERSION, from_json, json_schema, to_json
from promptzoo.prompts.types.parts import (
    KINDS,
    SPACES,
    AttributePrompt,
    Box,
    ClassPrompt,
    Lasso,
    MaskPrompt,
    ObjectInfo,
    Point,
    ReferencePrompt,
    Scribble,
    TaskPrompt,
    TextPrompt,
)
from promptzoo.prompts.types.prompt_set import PromptSet

__all__ = ["KINDS", "SCHEMA_VERSION", "SPACES", "AttributePrompt", "Box", "ClassPrompt", "Lasso", "MaskPrompt",
           "ObjectInfo", "Point", "PromptSet", "ReferencePrompt", "Scribble", "TaskPrompt", "TextPrompt", "from_json",
           "json_schema", "to_json"]
