"""Floor 3: prompts turned into what networks read."""
from promptzoo.prompts.encoders.maps import PROMPT_CHANNELS, WindowPrompts, prompt_maps

__all__ = ["PROMPT_CHANNELS", "WindowPrompts", "prompt_maps"]
