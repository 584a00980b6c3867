"""The log of prompts as text for standard DICOM attributes, whose length is limited."""
from __future__ import annotations

import json
from typing import Any, Mapping

LONG_TEXT, SHORT_TEXT = 10240, 1024
"""Most characters of the value representations LT and ST (PS3.5 6.2)."""
ESSENTIAL = ("label_values", "names", "session", "bundle", "digest", "engine", "estimated_dice")
"""What is kept of a record that is too long; the whole one is in the JSON beside the label."""


def provenance_text(record: Mapping[str, Any], limit: int = LONG_TEXT) -> str:
    """A record as JSON of at most ``limit`` characters.

    Args:
        record: JSON-able; of what does not fit, members are left out from the least telling on, and ``left_out`` names
            them.
        limit: most characters.
    """
    kept = dict(record)
    left_out: list[str] = []
    order = [name for name in kept if name not in ESSENTIAL] + list(reversed(ESSENTIAL))
    sizes = {name: len(json.dumps(kept[name], default=str)) for name in kept}
    order.sort(key=lambda name: (name in ESSENTIAL, -sizes.get(name, 0)))
    while True:
        text = json.dumps({**kept, **({"left_out": left_out} if left_out else {})}, default=str, separators=(",", ":"))
        if len(text) <= limit or not kept:
            return text[:limit]
        name = next(name for name in order if name in kept)
        kept.pop(name)
        left_out.append(name)


def read_provenance(text: object) -> dict[str, Any]:
    """Inverse of :func:`provenance_text`; empty for a text of others."""
    try:
        record = json.loads(str(text))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
