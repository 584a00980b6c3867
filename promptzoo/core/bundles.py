"""Reading bundle folders without torch: what a bundle is, takes, ships and may not be used for (contract 5)."""
from __future__ import annotations

import difflib
import hashlib
import json
import logging
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Mapping

from promptzoo.core.errors import BundleError, NotFoundError, complain
from promptzoo.core.learned import learned_prompts
from promptzoo.core.locations import bundles_dir, versions_dir

logger = logging.getLogger(__name__)
METADATA = Path("configs", "metadata.json")


@dataclass(frozen=True, eq=False)
class BundleInfo:
    """What the files of one bundle say.

    Args:
        name: the folder's name, for example ``interactive_refinement_2d``.
        path: the bundle's folder, absolute.
        metadata: the whole ``configs/metadata.json``.
    """

    name: str
    path: Path
    metadata: Mapping[str, Any] = field(repr=False)

    @property
    def block(self) -> Mapping[str, Any]:
        """The ``promptzoo`` block of the metadata; see ``promptzoo_block.schema.json``."""
        return self.metadata["promptzoo"]

    @property
    def version(self) -> str:
        """Version of the bundle, ``x.y.z`` with one-digit components."""
        return str(self.metadata["version"])

    @property
    def title(self) -> str:
        """The display name; the folder's name if the metadata has none."""
        return str(self.metadata.get("name") or self.name)

    @property
    def description(self) -> str:
        """One or two sentences on what the bundle does."""
        return str(self.metadata.get("description", ""))

    @property
    def family(self) -> str:
        """Id of the mechanism family, for example ``interactive-refinement``."""
        return self.block["family"]

    @property
    def task(self) -> str:
        """``segmentation``, ``detection``, ``classification`` or ``generation``."""
        return self.block["task"]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The kinds of prompt the bundle takes, see ``promptzoo.prompts.types.KINDS``."""
        return tuple(self.block["prompts"])

    @property
    def dimensions(self) -> int:
        """2 (slices and flat images) or 3 (volumes)."""
        return self.block["dimensions"]

    @property
    def weights(self) -> Mapping[str, Any]:
        """``kind``, ``file``, ``bytes_max``, ``trained_on``, ``licence``."""
        return self.block["weights"]

    @property
    def weights_path(self) -> Path | None:
        """The weight file, whether it is there or not; None for a bundle without weights."""
        name = self.weights.get("file")
        return self.path / name if name else None

    @property
    def base_weights(self) -> Path | None:
        """The weight file of the bundle that this one is derived from; None if it is not derived."""
        base = self.weights.get("base")
        return self.path.parent / base["bundle"] / "models" / "model.pt" if base else None

    @property
    def needs(self) -> tuple[Path, ...]:
        """Folders of the bundles that this one runs, whether they are there or not."""
        return tuple(self.path.parent / name for name in self.block.get("needs", ()))

    @property
    def not_for(self) -> tuple[str, ...]:
        """Sentences: what the shipped weights must not be used for."""
        return tuple(self.block["not_for"])

    @property
    def systems(self) -> Mapping[str, str]:
        """Catalog id to ``works`` or ``planned``."""
        return self.block.get("systems", {})

    @property
    def exemptions(self) -> Mapping[str, str]:
        """Checks that this bundle is excused from, each with its reason."""
        return self.block.get("exemptions", {})

    @property
    def precision(self) -> Mapping[str, str | list[str]]:
        """Default precision per engine, or several, the first that the machine has; without one, fp32."""
        return self.block.get("precision", {})

    @property
    def inference(self) -> Mapping[str, Any]:
        """``predictor`` (dotted path) and its ``args``; empty if ``inferer`` of configs/inference.json says it all."""
        return self.block.get("inference", {})

    @property
    def label(self) -> Mapping[str, Any]:
        """How the MONAI Label app presents the bundle: ``type`` and ``labels``; what a person taught it comes last."""
        told = self.block.get("label", {})
        if not self.learns:
            return told
        own = list(told.get("labels", ()))
        return {**told, "labels": own + [name for name in self.learned() if name not in own]}

    @property
    def learns(self) -> bool:
        """Whether the bundle takes learned prompts (``extra.learns``)."""
        return bool(self.block.get("extra", {}).get("learns"))

    def learned(self) -> dict[str, Path]:
        """The learned prompts that fit this bundle, name to file; see :mod:`promptzoo.core.learned`."""
        return learned_prompts(self.name, self.frozen_sha256) if self.learns else {}

    @property
    def frozen_sha256(self) -> str | None:
        """SHA-256 of the weights that learned prompts belong to: of the base, or of a bundle without one its own; None
        while there are none."""
        if base := self.weights.get("base"):
            return str(base["sha256"])
        file = self.weights_path
        return hashlib.sha256(file.read_bytes()).hexdigest() if file and file.is_file() else None

    @property
    def spoken_classes(self) -> tuple[str, ...]:
        """Classes as which the words of a text prompt are read; empty for a bundle that takes no text, and for one that
        reads whole sentences by itself (``extra.reads_sentences``)."""
        if "text" not in self.prompts or self.block.get("extra", {}).get("reads_sentences"):
            return ()
        return tuple(str(name) for name in self.label.get("labels") or ())

    @property
    def contract(self) -> Mapping[str, Any]:
        """How the contract suite makes this bundle small: ``train_overrides``, ``inference_overrides`` …"""
        return self.block.get("contract", {})

    def config(self, name: str) -> Path:
        """Path of ``configs/<name>.json``.

        Raises:
            NotFoundError: if the bundle has no such config.
        """
        file = self.path / "configs" / f"{name}.json"
        if not file.is_file():
            have = sorted(f.stem for f in file.parent.glob("*.json") if f.stem != "metadata")
            raise NotFoundError(complain(f"config of bundle {self.name}", name, ", ".join(have) or "none"))
        return file

    def variants(self) -> dict[str, Path]:
        """Catalog id to its overlay ``configs/variants/<id>.json``, in alphabetical order."""
        return {file.stem: file for file in sorted((self.path / "configs" / "variants").glob("*.json"))}

    def variant(self, system_id: str) -> Path:
        """The overlay of one system.

        Raises:
            NotFoundError: naming the variants there are.
        """
        found = self.variants()
        if system_id not in found:
            raise NotFoundError(complain(f"variant of bundle {self.name}", system_id, ", ".join(found) or "none",
                                         _near(system_id, list(found))))
        return found[system_id]

    def results(self) -> dict[str, Any]:
        """The measured numbers of ``docs/results.json``; empty if there are none."""
        file = self.path / "docs" / "results.json"
        return read_json(file) if file.is_file() else {}


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``.

    Raises:
        BundleError: if the file is missing, is no JSON or holds no object; the message names file, line and column.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(complain("unreadable file", f"{file}: {error.strerror}", "a readable JSON file")) from error
    except ValueError as error:
        raise BundleError(complain("not JSON", f"{file}: {error}", "a JSON object")) from error
    if not isinstance(content, dict):
        raise BundleError(complain("JSON file", f"{file}: a {type(content).__name__}", "a JSON object"))
    return content


@cache
def _validator(schema_file: str) -> Any:
    from jsonschema import Draft7Validator  # 3.2.0, pinned by pydicom-seg: the newest draft it knows is 7

    return Draft7Validator(read_json(Path(__file__).with_name(schema_file)))


def schema_problems(document: object, schema_file: str) -> list[str]:
    """What is wrong with ``document`` under a schema of this folder, one readable line each; empty if nothing is."""
    lines = []
    for error in sorted(_validator(schema_file).iter_errors(document), key=lambda e: [str(p) for p in e.absolute_path]):
        where = ".".join(str(part) for part in error.absolute_path) or "top level"
        text = error.message if len(error.message) <= 240 else error.message[:237] + "..."
        lines.append(f"{where}: {text}")
    return lines


def block_problems(metadata: Mapping[str, Any]) -> list[str]:
    """What is wrong with the ``promptzoo`` block of ``metadata``, one line each."""
    if "promptzoo" not in metadata:
        return ["top level: the promptzoo block is missing"]
    return schema_problems(metadata["promptzoo"], "promptzoo_block.schema.json")


def read_bundle(path: Path) -> BundleInfo:
    """Read one bundle folder.

    Raises:
        BundleError: if the metadata is missing, is no JSON, or its ``promptzoo`` block does not fit the schema.
    """
    path = Path(path).resolve()
    metadata = read_json(path / METADATA)
    problems = block_problems(metadata)
    if "version" not in metadata:
        problems.append("top level: version is missing")
    if problems:
        raise BundleError(f"{path.name}/{METADATA}: " + "; ".join(problems))
    return BundleInfo(path.name, path, metadata)


def current_pointer(path: Path) -> Path | None:
    """The file that names the version in use of the bundle in ``path``, there or not; None if versions are off.

    Bundles of the same name in different folders have different pointers.
    """
    folder = versions_dir()
    if folder is None:
        return None
    return folder / path.name / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8] / "current.json"


def in_use(shipped: BundleInfo) -> BundleInfo:
    """The version of a bundle that is in use here: the shipped one, or one that was trained on corrections.

    See :class:`promptzoo.core.versions.Versions`. A version that cannot be read is left out with a logged error.
    """
    pointer = current_pointer(shipped.path)
    if pointer is None or not pointer.is_file():
        return shipped
    try:
        number = int(read_json(pointer)["number"])
        return read_bundle(pointer.parent / str(number) / shipped.name) if number else shipped
    except (BundleError, KeyError, TypeError, ValueError) as error:
        logger.error("version in use of bundle %s cannot be read, the shipped one is used: %s", shipped.name, error)
        return shipped


def find_bundles(folder: str | Path | None = None) -> list[BundleInfo]:
    """The bundles in ``folder`` (default :func:`promptzoo.core.locations.bundles_dir`) by name, each as :func:`in_use`.

    A bundle that cannot be read is left out with a logged error, so that it does not take the others with it.
    """
    bundles = []
    for file in sorted(Path(folder or bundles_dir()).glob(f"*/{METADATA}")):
        try:
            bundles.append(in_use(read_bundle(file.parents[1])))
        except BundleError as error:
            logger.error("bundle left out: %s", error)
    return bundles


def get_bundle(name_or_path: str | Path, folder: str | Path | None = None) -> BundleInfo:
    """One bundle, by its name in ``folder`` (then as :func:`in_use`) or by the path of its folder (then as it is).

    Raises:
        NotFoundError: if there is no such bundle; the message names near matches and those there are.
        BundleError: if it is there but cannot be read.
    """
    info = get_shipped(name_or_path, folder)
    return info if (Path(name_or_path) / METADATA).is_file() else in_use(info)


def get_shipped(name_or_path: str | Path, folder: str | Path | None = None) -> BundleInfo:
    """One bundle as it came, by its name in ``folder`` or by the path of its folder.

    Raises:
        NotFoundError: if there is no such bundle; the message names near matches and those there are.
        BundleError: if it is there but cannot be read.
    """
    path = Path(name_or_path)
    if (path / METADATA).is_file():
        return read_bundle(path)
    known = [file.parents[1].name for file in sorted(Path(folder or bundles_dir()).glob(f"*/{METADATA}"))]
    if str(name_or_path) not in known:
        raise NotFoundError(complain("bundle", str(name_or_path), ", ".join(known) or "none", _near(path.name, known)))
    return read_bundle(Path(folder or bundles_dir()) / str(name_or_path))
