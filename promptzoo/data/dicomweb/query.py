"""QIDO-RS searches: which attributes must match, which are wanted, which page.

Reference: PS3.18 8.3.4 and 10.6, PS3.4 C.2.2.2 (attribute matching).
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Iterable, Mapping

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from promptzoo.core.errors import complain
from promptzoo.data.dicomweb.errors import QueryError
from promptzoo.data.dicomweb.model import Json

_CONTROL = ("limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching",
            "orderby", "accept", "charset")
_RANGED = ("DA", "TM", "DT")


@dataclass(frozen=True)
class Query:
    """A search.

    Args:
        filters: wanted value by tag.
        fields: tags that are wanted beyond the usual ones.
        everything: whether all indexed attributes are wanted.
        limit: most results; None for all.
        offset: how many results to pass over.
    """

    filters: Mapping[str, str]
    fields: tuple[str, ...] = ()
    everything: bool = False
    limit: int | None = None
    offset: int = 0


def parse_tag(name: str) -> str:
    """Tag of a keyword (``PatientID``) or of eight hexadecimal digits (``00100020``).

    Raises:
        QueryError: if DICOM has no such attribute.
    """
    text = name.strip()
    if re.fullmatch(r"[0-9A-Fa-f]{8}", text):
        return text.upper()
    found = tag_for_keyword(text)
    if found is None:
        raise QueryError(complain("attribute of a search", name, "a DICOM keyword or tag such as PatientID or 00100020",
                                  "Check the spelling"))
    return f"{found:08X}"


def parse_query(pairs: Iterable[tuple[str, str]]) -> Query:
    """The search that the parameters of an address ask for.

    Args:
        pairs: name and value, names may repeat. Attributes of sequences (``A.B``) are accepted and not matched, as
            PS3.4 allows for optional keys.

    Raises:
        QueryError: for an unknown attribute, or a limit or offset that is no whole number from 0.
    """
    filters: dict[str, str] = {}
    fields: list[str] = []
    numbers: dict[str, int] = {}
    everything = False
    for name, value in pairs:
        if name in ("limit", "offset"):
            if not re.fullmatch(r"\d{1,9}", value.strip()):
                raise QueryError(complain(f"{name} of a search", value, "a whole number from 0"))
            numbers[name] = int(value)
        elif name == "includefield":
            wanted = [part.strip() for part in value.split(",") if part.strip()]
            everything = everything or "all" in wanted
            fields += [parse_tag(part) for part in wanted if part != "all" and "." not in part]
        elif name.lower() not in _CONTROL and "." not in name and value.strip() not in ("", "*"):
            tag = parse_tag(name)
            filters[tag] = f"{filters[tag]}\\{value}" if tag in filters else value
    return Query(filters, tuple(dict.fromkeys(fields)), everything, numbers.get("limit"), numbers.get("offset", 0))


@lru_cache(512)
def _pattern(text: str, ignore_case: bool) -> re.Pattern[str]:
    escaped = re.escape(text.strip()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(escaped, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _texts(told: Mapping[str, Any]) -> list[str]:
    values = told.get("Value") or []
    return ["=".join(str(part) for part in v.values()) if isinstance(v, dict) else str(v)
            for v in values if v is not None]


def _in_range(value: str, wanted: str, vr: str) -> bool:
    low, _, high = wanted.partition("-")
    if vr == "TM":
        value, low, high = (part.replace(":", "") for part in (value, low, high))
    return bool(value) and (not low or value >= low[:len(value)]) and (not high or value[:len(high)] <= high)


def matches(told: Mapping[str, Any] | None, tag: str, wanted: str) -> bool:
    """Whether an element is what a search wants.

    Names of persons match in any case and also by their first components (``DOE`` finds ``DOE^JOHN``); dates and times
    can be ranges (``20240101-``); ``*`` and ``?`` are wildcards, except in identifiers, of which a list can be given.
    """
    vr = str((told or {}).get("vr") or _vr(tag))
    texts = _texts(told or {})
    for part in re.split(r"[\\,]" if vr == "UI" else r"\\", wanted):
        part = part.strip()
        if vr in _RANGED and "-" in part:
            if any(_in_range(text, part, vr) for text in texts):
                return True
        elif vr == "PN":
            whole = _pattern(part, True)
            if any(whole.fullmatch(name) or whole.fullmatch(name.partition("^")[0])
                   for text in texts for name in (text, *text.split("="))):
                return True
        elif vr in ("IS", "DS", "US", "UL", "SS", "SL", "FD", "FL"):
            if any(_same_number(text, part) for text in texts):
                return True
        elif any(text == part if vr == "UI" else _pattern(part, False).fullmatch(text.strip()) for text in texts):
            return True
    return False


def _same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _vr(tag: str) -> str:
    return dictionary_VR(int(tag, 16)) if keyword_for_tag(int(tag, 16)) else "UN"


def empty_element(tag: str) -> Json:
    """An element without value; its VR from the dictionary."""
    return {"vr": _vr(tag)[:2]}
