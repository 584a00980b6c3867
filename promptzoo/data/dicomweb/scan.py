"""The index of a folder: every DICOM file and every file that is wrapped, by study, series and instance.

A scan walks the folder and reads only files whose size or time of change is new. What wrapping needs to know of a file
(its hash, grid and encoding) is kept in the user cache, so that a restart does not decode every volume again.
"""
from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Mapping

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from promptzoo.core.errors import ImageError, PromptZooError, complain
from promptzoo.data.dicomweb.folder import Found, Stamp, find_files, image_ids
from promptzoo.data.dicomweb.model import INDEXED, TAGS, Instance, json_of
from promptzoo.data.dicomweb.part10 import has_preamble
from promptzoo.data.dicomweb.quiet import quiet_pydicom
from promptzoo.data.dicomweb.wrap import Plan, make_plan
from promptzoo.data.dicomweb.wrapped import SCHEME, WrappedSeries

logger = logging.getLogger(__name__)

_TAGS = [Tag(int(tag, 16)) for tag in sorted(INDEXED)] + [Tag(0x00080005)]
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_OWN = TAGS["instance"][1:3]  # SOPInstanceUID, InstanceNumber: every instance has its own
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Files of these suffixes are parsed even if they lack the preamble of PS3.10."""

Tree = Mapping[str, Mapping[str, Mapping[str, Instance]]]
"""Instance by SOPInstanceUID by SeriesInstanceUID by StudyInstanceUID."""


@dataclass(frozen=True, eq=False)
class Index:
    """A snapshot; never modified once made.

    Args:
        studies: everything there is.
        wrapped: the wrapped series by image id.
        skipped: reason by file (relative) of what is not served.
    """

    studies: Tree = field(default_factory=dict)
    wrapped: Mapping[str, WrappedSeries] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Known:
    """What a file held when it had this stamp."""

    stamp: Stamp
    instances: tuple[Instance, ...] = ()
    reason: str = ""


class Scanner:
    """Keeps the index of a folder up to date. Not safe to use from several threads: the store has the lock.

    Args:
        root: the folder of studies, resolved.
        extra: another folder whose DICOM files belong to it: masks, where ``root`` is read-only.
        ledger: file for the plans of wrapped files.
        wrap: whether files of other formats are wrapped.
    """

    def __init__(self, root: Path, extra: Path, ledger: Path, wrap: bool = True) -> None:
        self._root, self._extra, self._ledger, self._wrap = root, extra, ledger, wrap
        self._known: dict[tuple[str, Path], _Known] = {}
        self._plans: dict[str, dict[str, Any]] = self._kept_plans()
        self._outside: list[Path] = []
        self._dirty = False
        self._shared: dict[tuple[str, str], dict[str, Any]] = {}

    def scan(self) -> Index | None:
        """Look at the folder.

        Returns:
            The new index; None if nothing changed since the last scan.
        """
        found = find_files(self._root)
        files = {("", path): stamp for path, stamp in found.dicom.items()}
        if self._extra.is_dir():
            files.update({("", path): stamp for path, stamp in find_files(self._extra.resolve()).dicom.items()})
        if self._wrap:
            files.update({(image_id, path): found.images[path]
                          for image_id, path in image_ids(found.images, self._root).items()})
        changed = self._known.keys() != files.keys() or self._outside != found.outside
        self._outside = found.outside
        known: dict[tuple[str, Path], _Known] = {}
        for key, stamp in files.items():
            before = self._known.get(key)
            if before is None or before.stamp != stamp:
                before, changed = self._read(key[1], key[0], stamp), True
            known[key] = before
        self._known = known
        if not changed:
            return None
        self._save_plans()
        return self._index(found)

    def _read(self, path: Path, image_id: str, stamp: Stamp) -> _Known:
        try:
            if image_id:
                series = WrappedSeries.of(path, stamp, self._plan(path, image_id, stamp))
                return _Known(stamp, wrapped_instances(series))
            if not has_preamble(path) and not path.name.lower().endswith(DICOM_SUFFIXES):
                return _Known(stamp)
            with quiet_pydicom():
                instance = instance_of(path)
            return _Known(stamp, (replace(instance, attributes=self._with_shared(instance.attributes)),))
        except PromptZooError as error:
            return _Known(stamp, reason=str(error))
        except Exception as error:  # parsers raise many kinds on files that only look like images
            logger.warning("%s is left out: %s: %s", path.name, type(error).__name__, error)
            return _Known(stamp, reason=f"{type(error).__name__}: {error}")

    def _with_shared(self, attributes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """The same attributes; what thousands of instances have in common is held once."""
        return {tag: told if tag in _OWN else self._shared.setdefault((tag, repr(told)), told)
                for tag, told in attributes.items()}

    def _kept_plans(self) -> dict[str, dict[str, Any]]:
        try:
            told = json.loads(self._ledger.read_text(encoding="utf-8"))
            return dict(told["plans"]) if told["scheme"] == SCHEME else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _plan(self, path: Path, image_id: str, stamp: Stamp) -> Plan:
        origin = [str(path.relative_to(self._root)), *stamp]
        kept = self._plans.get(image_id)
        if kept and kept["origin"] == origin:
            told = kept["plan"]
            return Plan(**{**told, **{name: tuple(told[name]) for name in ("shape", "affine", "window")}})
        plan = make_plan(path, image_id)
        self._plans[image_id] = {"origin": origin, "plan": asdict(plan)}
        self._dirty = True
        return plan

    def _save_plans(self) -> None:
        ids = {image_id for image_id, _ in self._known}
        kept = {image_id: plan for image_id, plan in self._plans.items() if image_id in ids}
        if not self._dirty and len(kept) == len(self._plans):
            return
        self._plans, self._dirty = kept, False
        partial = self._ledger.with_name(f".{self._ledger.name}.{os.getpid()}.part")
        try:
            partial.write_text(json.dumps({"scheme": SCHEME, "plans": kept}), encoding="utf-8")
            partial.replace(self._ledger)
        except OSError as error:  # a full or read-only cache costs time at the next start, nothing else
            logger.warning("plans of wrapped files are not kept: %s", error)

    def _index(self, found: Found) -> Index:
        studies: dict[str, dict[str, dict[str, Instance]]] = {}
        wrapped: dict[str, WrappedSeries] = {}
        skipped = {self._shown(path): "a link that leads out of the folder of studies" for path in found.outside}
        owners: dict[str, Instance] = {}
        for (_, path), entry in self._known.items():
            if entry.reason:
                skipped[self._shown(path)] = entry.reason
            for instance in entry.instances:
                owner = owners.setdefault(instance.sop_uid, instance)
                if owner is not instance:
                    skipped[self._shown(path)] = f"the same SOPInstanceUID as {self._shown(owner.path)}"
                    continue
                series = studies.setdefault(instance.study_uid, {}).setdefault(instance.series_uid, {})
                series[instance.sop_uid] = instance
                if instance.wrapped:
                    wrapped[instance.wrapped.plan.image_id] = instance.wrapped
        return Index(studies, wrapped, skipped)

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self._root)) if path.is_relative_to(self._root) else path.name


def instance_of(path: Path) -> Instance:
    """The index entry of a DICOM file; values that break the rules of their representation are kept as they are.

    Raises:
        ImageError: if it lacks an identifier. The parser has errors of its own for files that are not DICOM.
    """
    dataset = dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
    uids = [str(dataset.get(keyword) or "") for keyword in _UIDS]
    if not dataset.get("SOPClassUID") or not all(uids):
        raise ImageError(complain(f"{path.name} is no DICOM instance", "no SOPClassUID or instance UID",
                                  "SOPClassUID, StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID"))
    return Instance(uids[0], uids[1], uids[2], _indexed(dataset), path)


def _indexed(dataset: Dataset) -> dict[str, dict[str, Any]]:
    return {tag: told for tag, told in json_of(dataset).items() if tag in INDEXED}


def wrapped_instances(series: WrappedSeries) -> tuple[Instance, ...]:
    """The index entries of the slices of a wrapped series."""
    shared = _indexed(series.header(0))
    sop, number = _OWN
    return tuple(Instance(series.study_uid, series.series_uid, uid, {
        **shared, sop: {"vr": "UI", "Value": [uid]}, number: {"vr": "IS", "Value": [k + 1]}}, series.path, series, k)
        for k, uid in enumerate(series.sop_uids))
