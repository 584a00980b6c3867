"""A session of the server, as a client holds it."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

import numpy as np

from promptzoo.client.transport import Transport
from promptzoo.prompts.types import ObjectInfo, PromptSet

PATH = "/promptzoo/sessions"


@dataclass(frozen=True)
class Answer:
    """What the server says to a change.

    Args:
        sequence: number of the last event.
        estimated_dice: by object id; None where the bundle gives none.
        voxels: marked voxels by object id; empty if the answer was read after a lost connection.
        numbers: of the prompts in force, oldest first.
        reason: why no voxel is marked; empty if one is.
        raw: everything that was told.
    """

    sequence: int
    estimated_dice: Mapping[int, float | None] = field(default_factory=dict)
    voxels: Mapping[int, int] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    reason: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


class ClientSession:
    """Made by :meth:`promptzoo.client.Client.begin` or ``open``.

    Every change names the last event that this client has seen; if somebody else changed the session, the server
    refuses with status 409 and nothing is written: call :meth:`refresh`, look, and repeat. A change whose answer got
    lost on the way is not made twice.

    Args:
        transport: to the server.
        view: the session as the server told it.
    """

    def __init__(self, transport: Transport, view: Mapping[str, Any]) -> None:
        self._transport, self._view = transport, dict(view)

    @property
    def id(self) -> str:
        """The session's id."""
        return str(self._view["id"])

    @property
    def sequence(self) -> int:
        """Number of the last event seen."""
        return int(self._view["sequence"])

    @property
    def bundle(self) -> str:
        """Who answers."""
        return str(self._view["bundle"])

    @property
    def prompts(self) -> PromptSet:
        """The prompts in force, in world space, as of the last :meth:`refresh`."""
        return PromptSet.from_json({"schema_version": 1, "objects": self._view["objects"],
                                    "prompts": [entry["prompt"] for entry in self._view["prompts"]],
                                    "through_slices": self._view.get("through_slices", False)})

    def refresh(self) -> "ClientSession":
        """Read the session anew."""
        self._view = self._transport.send("GET", f"{PATH}/{self.id}").json()
        return self

    def add(self, *prompts: Any, objects: Iterable[ObjectInfo] = (), grid: str = "image",
            through_slices: bool | None = None) -> Answer:
        """Add prompts; one :meth:`undo` takes them back together.

        Args:
            prompts: prompts of :mod:`promptzoo.prompts.types`.
            objects: names and colours of the objects spoken of.
            grid: whose voxels prompts in voxel space are: of the ``image`` file, or of the DICOM ``series``.
            through_slices: whether a 2D bundle carries prompts through the volume from here on; None as before.

        Raises:
            ServerError: if a prompt does not fit the image or the bundle (422), or the session went on (409).
        """
        document = PromptSet(tuple(prompts), tuple(objects)).to_json()
        body = {"schema_version": document["schema_version"], "prompts": document["prompts"],
                "objects": document.get("objects", []) if tuple(objects) else []}
        if through_slices is not None:
            body["through_slices"] = bool(through_slices)
        return self._change("POST", "prompts", body, grid=grid)

    def remove(self, number: int) -> Answer:
        """Delete one prompt by its number."""
        return self._change("DELETE", f"prompts/{number}")

    def undo(self) -> Answer:
        """Take the last operation back."""
        return self._change("POST", "undo")

    def redo(self) -> Answer:
        """Do again what was undone last."""
        return self._change("POST", "redo")

    def overlap(self, rule: str) -> Answer:
        """Who owns a voxel claimed twice: ``last``, ``first`` or ``probability``."""
        return self._change("PUT", "overlap", {"rule": rule})

    def through_slices(self, on: bool = True) -> Answer:
        """Whether a 2D bundle carries prompts through the volume, or answers the prompted slices alone."""
        return self._change("PUT", "through-slices", {"on": bool(on)})

    def labelmap(self, grid: str = "image") -> tuple[np.ndarray, np.ndarray]:
        """The label map.

        Args:
            grid: ``image`` for ``[i, j, k]`` of the image file, ``series`` for ``[column, row, slice]`` of the series.

        Returns:
            Labels uint8 or uint16, and the ``[4, 4]`` affine from voxel index to RAS+ millimetres.
        """
        return self._voxels("labelmap", grid)

    def probability(self, object_id: int | None = None, grid: str = "image") -> tuple[np.ndarray, np.ndarray]:
        """Probability of an object (default the first), float32 in [0, 1]; otherwise as :meth:`labelmap`."""
        return self._voxels("probability", grid, object_id)

    def uncertainty(self, object_id: int | None = None, grid: str = "image") -> tuple[np.ndarray, np.ndarray]:
        """Uncertainty of an object in bits, float32 in [0, 1]; otherwise as :meth:`labelmap`."""
        return self._voxels("uncertainty", grid, object_id)

    def save(self, tag: str = "final", rtstruct: bool = False) -> Mapping[str, Any]:
        """Save the label map on the server, and as DICOM SEG where it has a store.

        Args:
            tag: under which the server files the label.
            rtstruct: whether an RT Structure Set is stored too.

        Returns:
            ``place``, ``seg_series``, ``seg_instance``, ``rtstruct_instance``; ``reason`` if something was not saved.
        """
        saved = self._transport.send("POST", f"{PATH}/{self.id}/save", {"tag": tag, "rtstruct": rtstruct},
                                     expected_sequence=self.sequence).json()
        self._view["sequence"] = saved["sequence"]
        return saved

    def export(self, user: str | None = None) -> dict[str, Any]:
        """How the masks came about, as a document that :meth:`promptzoo.client.Client.restore` takes."""
        return self._transport.send("GET", f"{PATH}/{self.id}/export", user=user).json()

    def replay(self) -> Mapping[str, Any]:
        """Compute the answer from the log alone; ``equal`` tells whether it is the one that was shown."""
        return self._transport.send("GET", f"{PATH}/{self.id}/replay").json()

    def _change(self, method: str, what: str, body: Any = None, **query: Any) -> Answer:
        seen = self.sequence

        def taken() -> Answer | None:
            view = self._transport.send("GET", f"{PATH}/{self.id}").json()
            if view["sequence"] != seen + 1:
                return None
            self._view = view
            told = view.get("answer") or {}
            return Answer(view["sequence"], _by_id(told.get("estimated_dice", {})),
                          numbers=tuple(entry["number"] for entry in view["prompts"]), raw=view)

        found = self._transport.send(method, f"{PATH}/{self.id}/{what}", body, taken, expected_sequence=seen, **query)
        if isinstance(found, Answer):
            return found
        told = found.json()
        self._view["sequence"] = told["sequence"]
        return Answer(told["sequence"], {entry["object_id"]: entry["estimated_dice"] for entry in told["objects"]},
                      {entry["object_id"]: entry["voxels"] for entry in told["objects"]}, tuple(told["numbers"]),
                      told["reason"], told)

    def _voxels(self, what: str, grid: str, object_id: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        answer = self._transport.send("GET", f"{PATH}/{self.id}/{what}", grid=grid, object=object_id)
        shape = json.loads(answer.headers["X-Promptzoo-Shape"])
        kind = np.dtype(answer.headers["X-Promptzoo-Dtype"]).newbyteorder("<")
        array = np.frombuffer(answer.content, kind).reshape(shape, order="F")
        return array, np.array(json.loads(answer.headers["X-Promptzoo-Affine"]))


def _by_id(told: Mapping[str, Any]) -> dict[int, float | None]:
    return {int(number): value for number, value in told.items()}
