"""The catalog: complete, consistent, and no system called working that has no bundle."""
import re

import pytest

from promptzoo.core.catalog import catalog_rows, get_system, systems
from promptzoo.core.errors import NotFoundError


def test_the_catalog_is_complete_and_its_ids_are_clean():
    entries = systems()
    assert len(entries) == 249 and len({s.family for s in entries}) == 45
    assert len({s.id for s in entries}) == len(entries)
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.id) and entry.name and entry.family and entry.task


def test_a_system_by_id():
    assert get_system("pe-med").family == "interactive-refinement"
    with pytest.raises(NotFoundError, match="catalog id: got pe-mud"):
        get_system("pe-mud")


def test_states(tmp_path, write_bundle):
    both = ("pe-med", "prompt-resunet")
    write_bundle(tmp_path, "two", both, systems={"pe-med": "works", "khor-ctv": "works", "prompt-resunet": "planned"})
    write_bundle(tmp_path, "three", both, systems={"pe-med": "works", "prompt-resunet": "works"})
    write_bundle(tmp_path, "other", ("khor-ctv",), family="sam-3d", systems={"khor-ctv": "works"})
    rows = {row["id"]: row for row in catalog_rows(tmp_path)}
    assert len(rows) == 249
    assert (rows["pe-med"]["state"], rows["pe-med"]["bundle"]) == ("works", "three, two")
    assert rows["pe-med"]["variant"] == "configs/variants/pe-med.json"
    assert (rows["prompt-resunet"]["state"], rows["prompt-resunet"]["bundle"]) == ("works", "three")
    # Claimed without an overlay, or by a bundle of another family: not there.
    assert (rows["khor-ctv"]["state"], rows["khor-ctv"]["bundle"], rows["khor-ctv"]["variant"]) == ("planned", "", "")
    assert sum(row["state"] == "works" for row in rows.values()) == 2
