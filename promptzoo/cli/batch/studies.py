"""What a batch is about: images from a list, a folder or a DICOMweb server, each with its prompts."""
from __future__ import annotations

import csv
import glob
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from promptzoo.core.errors import ImageError, NotFoundError, PromptError, PromptZooError, complain
from promptzoo.data.dicomweb.folder import LABELS
from promptzoo.data.io import READABLE, file_format
from promptzoo.prompts.types import ClassPrompt, ObjectInfo, PromptSet, TextPrompt

_LONGEST_FIRST = sorted(READABLE, key=len, reverse=True)
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Study:
    """One image of a batch.

    Args:
        id: unique within the batch; names the results.
        image: file, DICOM folder, or the UID of a series of a DICOMweb server.
        prompts: JSON of a prompt set in world space.
        remote: address of the DICOMweb server; empty for files.
        log: JSON of the session whose steps are taken instead of the prompts; empty for none.
        saved: label that the session ended with; empty for none.
    """

    id: str
    image: str
    prompts: str
    remote: str = ""
    log: str = ""
    saved: str = ""

    @property
    def name(self) -> str:
        """The id as the name of files, without the suffix of an image; what file names cannot hold becomes a digest."""
        known = self.id.lower().endswith(READABLE)
        stem = self.id[:-len(next(s for s in _LONGEST_FIRST if self.id.lower().endswith(s)))] if known else self.id
        plain = _SAFE.sub("_", stem).strip("._") or "study"
        return plain if plain == stem else f"{plain[:80]}-{hashlib.sha256(self.id.encode()).hexdigest()[:8]}"


def common_prompts(file: Path | None, texts: Sequence[str], classes: Sequence[str]) -> PromptSet | None:
    """The prompts that every image gets; None if none are told.

    Raises:
        NotFoundError: if there is no such file.
        PromptError: if the file is no prompt set, or its prompts are in voxels: images differ in their grids.
    """
    given = PromptSet()
    if file is not None:
        place = Path(file).expanduser()
        if not place.is_file():
            raise NotFoundError(complain("--prompts", str(file), "an existing JSON file of a prompt set"))
        given = PromptSet.from_json(place.read_text(encoding="utf-8"))
        if given.space != "world":
            raise PromptError(complain(f"space of {place.name}", given.space, "world: voxels differ between images",
                                       "Or give each image its own file, in the column prompts of a list"))
    number = max((info.object_id for info in given.objects), default=0)
    parts, infos = list(given.prompts), list(given.objects)
    for kind, values in ((ClassPrompt, classes), (TextPrompt, texts)):
        for value in values:
            number += 1
            parts.append(kind(value, number))
            infos.append(ObjectInfo(number, value))
    return PromptSet(tuple(parts), tuple(infos), given.through_slices) if parts else None


def studies_of(source: str, prompts: PromptSet | None, only: str = "") -> list[Study]:
    """The studies of a source.

    Args:
        only: of a folder that a server served: ``remaining``, the images without a final label; ``replay``, those with
            one that came of a session, with the steps of the session as prompts.
        source: a CSV with a column ``image`` (paths relative to it) and perhaps ``id`` and ``prompts`` (a prompt set as
            JSON file); a folder, searched at any depth; or ``http(s)://…/dicom-web?Modality=CT``.
        prompts: for studies without prompts of their own.

    Raises:
        NotFoundError: if the source does not exist or holds no image.
        PromptZooError: for a list without the columns, ids that occur twice, or a study without prompts.
        UpstreamError: if the server refuses or cannot be reached.
    """
    if urlsplit(source).scheme in ("http", "https"):
        found = list(_remote(source))
    else:
        place = Path(source).expanduser()
        if not place.exists():
            raise NotFoundError(complain("studies", source, "a CSV, a folder or the address of a DICOMweb server"))
        if only and not place.is_dir():
            raise PromptZooError(complain(f"studies with --{only}", source, "the folder of studies of a server"))
        found = list(_served(place, only) if only else _folder(place) if place.is_dir() else _listed(place))
    if not found:
        raise NotFoundError(complain("studies", source, "at least one image" + {
            "": "", "remaining": " without a final label", "replay": " with a final label and its prompt log"}[only]))
    ids = [study.id for study in found]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise PromptZooError(complain("ids of studies", ", ".join(twice[:5]), "each id once"))
    common = "" if prompts is None else json.dumps(prompts.to_json())
    ready = [study if study.prompts else replace(study, prompts=common) for study in found]
    bare = next((study.id for study in ready if not study.prompts), None)
    if bare is not None:
        raise PromptZooError(complain(f"prompts of {bare}", "none", "--text, --class, --prompts, or a column prompts"))
    return ready


def _folder(place: Path) -> Iterable[Study]:
    """Every image file below a folder; a folder with DICOM files is one image."""
    seen: set[Path] = set()
    labels = place / LABELS if (place / "datastore_v2.json").is_file() else None  # of a server
    for file in sorted(p for p in place.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if labels is not None and labels in file.parents:
            continue
        try:
            kind = file_format(file)
        except ImageError:
            continue
        image = file.parent if kind == "dicom" else file
        if image not in seen:
            seen.add(image)
            yield Study(image.relative_to(place).as_posix(), str(image.resolve()), "")


def _served(place: Path, only: str) -> Iterable[Study]:
    """Images of a folder that a server served, by what was saved for them."""
    from promptzoo.cli.server.studies import prepare_studies

    for name, image in sorted(prepare_studies(place).images.items()):
        label = next((place / LABELS / "final").glob(f"{glob.escape(name)}.n*"), None)
        log = place / LABELS / "final" / f"{name}.prompts.json"
        if only == "remaining" and label is None:
            yield Study(name, str(image), "")
        elif only == "replay" and label is not None and log.is_file():
            told = json.loads(log.read_text(encoding="utf-8"))
            yield Study(name, str(image), json.dumps(told["prompts"]), log=json.dumps(told), saved=str(label))


def _listed(place: Path) -> Iterable[Study]:
    try:
        with place.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise PromptZooError(complain("list of studies", place.name, "a CSV file with a column image",
                                      "For one image give the folder that it lies in, or use promptzoo segment"
                                      )) from error
    if not rows or "image" not in rows[0]:
        columns = ", ".join(rows[0]) if rows else "no row"
        raise PromptZooError(complain(f"columns of {place.name}", columns, "image, and perhaps id and prompts"))
    for row in rows:
        yield Study(row.get("id") or row["image"], _beside(place, row["image"]), _own_prompts(place, row))


def _beside(place: Path, name: str) -> str:
    path = Path(name).expanduser()
    return str(path if path.is_absolute() else (place.parent / path).resolve())


def _own_prompts(place: Path, row: Mapping[str, str]) -> str:
    name = (row.get("prompts") or "").strip()
    if not name:
        return ""
    file = Path(_beside(place, name))
    if not file.is_file():
        raise NotFoundError(complain(f"prompts of {row.get('id') or row['image']}", name, "an existing JSON file"))
    return json.dumps(PromptSet.from_json(file.read_text(encoding="utf-8")).to_json())


def _remote(address: str) -> Iterable[Study]:
    """Series of a DICOMweb server that the query of the address asks for."""
    from promptzoo.data.dicomweb.remote import RemoteArchive

    parts = urlsplit(address)
    base = parts._replace(query="", fragment="").geturl()
    archive = RemoteArchive(client_of(base))
    for uid in sorted(archive.images(dict(parse_qsl(parts.query)))):
        yield Study(uid, uid, "", base)


def client_of(base: str) -> Any:
    """A client of a DICOMweb server; a login in the address is used.

    Raises:
        MissingDependencyError: without ``dicomweb_client``.
    """
    from promptzoo.core.optional import require

    web, requests = (require(name, "a DICOMweb server", "label") for name in ("dicomweb_client", "requests"))
    parts, session = urlsplit(base), requests.Session()
    if parts.username:
        session.auth = (parts.username, parts.password or "")
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return web.api.DICOMwebClient(plain, session=session)
