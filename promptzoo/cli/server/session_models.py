"""The JSON of the sessions' endpoints, as OpenAPI tells it."""
from __future__ import annotations

from typing import Any, Dict, Literal, Optional

from pydantic import BaseModel, ConfigDict, Field, StrictBool

PromptKind = Literal["point", "box", "scribble", "lasso", "mask", "text", "class", "attribute", "reference", "task"]
Color = Optional[tuple[int, int, int]]


class NewSession(BaseModel):
    """Begin a session."""

    image: str = Field(min_length=1, description="Id of the image, as the server lists its images.")
    bundle: str = Field("auto", description="Name of a bundle; auto takes the one that fits the image.")
    user: str = Field("", max_length=200, description="Who prompts; best a pseudonym.")
    kinds: list[PromptKind] = Field([], description="Kinds of prompt to come; auto takes a bundle that takes them.")
    texts: list[str] = Field([], max_length=100, description="Texts to come; auto takes a bundle that knows what they "
                                                             "name.")


class ImportedSession(BaseModel):
    """Go on with a session that was exported elsewhere."""

    document: dict[str, Any] = Field(description="What GET …/export answered.")
    image: str = Field(min_length=1, description="Id of the same image on this server.")
    user: str = Field("", max_length=200)
    present_bundle: bool = Field(False, description="Answer with the bundle version installed here, though masks may "
                                                    "differ from those recorded.")


class PromptBody(BaseModel):
    """One prompt, in the form of a prompt set; further members depend on the kind."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [
        {"kind": "point", "position": [60, 40, 12], "positive": True, "object_id": 1, "space": "voxel"},
        {"kind": "box", "low": [10, 10, 12], "high": [40, 42, 13], "object_id": 2, "space": "voxel"}]})
    kind: PromptKind
    object_id: int = Field(1, ge=1, le=65535)


class ObjectBody(BaseModel):
    """An object that prompts speak of."""

    object_id: int = Field(ge=1, le=65535)
    name: str = ""
    color: Color = Field(None, description="RGB, 0 to 255; none for the usual colour of the object.")


class NewPrompts(BaseModel):
    """A prompt set document; its prompts are added together, and undone together."""

    schema_version: int = 1
    prompts: list[PromptBody] = Field(min_length=1)
    objects: list[ObjectBody] = Field([], description="Names and colours; objects that are not told keep theirs.")
    through_slices: Optional[bool] = Field(None, description="Whether 2D bundles carry prompts through a volume from "
                                                             "here on; left out: as before.")


class ObjectChange(BaseModel):
    """What shall change of an object; members left out stay."""

    name: Optional[str] = None
    color: Color = None


class OverlapBody(BaseModel):
    """Who owns a voxel claimed by two objects."""

    rule: Literal["last", "first", "probability"]


class ThroughSlicesBody(BaseModel):
    """Whether 2D bundles carry prompts through a volume, or answer the prompted slices alone."""

    on: StrictBool


class NoteBody(BaseModel):
    """A remark for the log."""

    text: str = Field(min_length=1, max_length=10000)


class SaveBody(BaseModel):
    """Save the label map."""

    tag: str = Field("final", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Under which the server files the label.")
    rtstruct: bool = Field(False, description="Store an RT Structure Set too.")


class SessionHead(BaseModel):
    """What a session is about."""

    id: str
    image: str
    image_hash: str
    user: str
    bundle: str
    bundle_version: str
    created: str
    updated: str
    sequence: int = Field(description="Number of the last event; give it as expected_sequence when writing.")


class SessionPage(BaseModel):
    """Some of the sessions."""

    total: int
    sessions: list[SessionHead]


class PromptView(BaseModel):
    """A prompt in force."""

    number: int = Field(description="By which it can be deleted.")
    sequence: int
    time: str
    prompt: dict[str, Any]


class RecordedView(BaseModel):
    """The answer that was shown."""

    digest: str = Field(description="SHA-256 of shape and values (little-endian uint16, C order) of the label map.")
    estimated_dice: dict[str, Optional[float]]
    seconds: float
    engine: str
    time: str


class SessionView(SessionHead):
    """A session with its state."""

    undo_depth: int
    redo_depth: int
    overlap: str
    through_slices: bool = Field(description="Whether 2D bundles carry prompts through a volume.")
    objects: list[ObjectBody]
    prompts: list[PromptView]
    answer: Optional[RecordedView] = Field(description="None if the present state has not been answered yet.")


class StopView(BaseModel):
    """Where carrying ended."""

    anchor: int
    at: int
    reason: str


class ThroughSlicesView(BaseModel):
    """How the prompts of an object were carried through a volume; slices are voxel indices of the image."""

    axis: int
    anchors: list[int] = Field(description="Slices that have prompts of their own.")
    negative: list[int] = Field(description="Slices that have negative prompts alone.")
    propagated: list[tuple[int, int]] = Field(description="First and last of each run of other slices.")
    interpolated: list[tuple[int, int]] = Field(description="Runs whose shape is interpolated between anchors.")
    stops: list[StopView]
    estimated_dice: dict[int, float] = Field(description="By slice.")


class ObjectAnswer(BaseModel):
    """An object and its mask."""

    object_id: int
    name: str
    color: tuple[int, int, int]
    prompts: int = Field(description="How many are in force.")
    voxels: int
    estimated_dice: Optional[float]
    through_slices: Optional[ThroughSlicesView] = Field(None, description="How prompts were carried; none if not.")
    corrected_box: Optional[dict[str, Any]] = Field(None, description="The box that was used in place of the given one,"
                                                                      " as a prompt in voxels of the image.")
    generated: Optional[Dict[str, Any]] = Field(None, description="Prompt set that the bundle made by itself, to edit.")


class AnswerView(BaseModel):
    """The answer to a change."""

    session: str
    sequence: int
    undo_depth: int
    redo_depth: int
    overlap: str
    objects: list[ObjectAnswer]
    numbers: list[int] = Field(description="Numbers of the prompts in force.")
    seconds: dict[str, float]
    engine: str
    bundle: str
    bundle_version: str
    digest: str
    reason: str = Field(description="Why no voxel is marked; empty if one is.")
    result: Optional[str] = Field(description="Where the voxels are, as asked by output.")


class ReplayView(BaseModel):
    """A session computed again from its log."""

    session: str
    sequence: int
    digest: str
    recorded: Optional[str]
    equal: Optional[bool] = Field(description="None if no answer was recorded.")
    engine: str
    recorded_engine: str
    seconds: float


class SavedView(BaseModel):
    """Where a label map was saved."""

    session: str
    sequence: int
    place: str = Field(description="Name of the label; empty if nothing was saved.")
    digest: str
    seg_series: str = Field("", description="Series of the DICOM SEG; empty if none was written.")
    seg_instance: str = Field("", description="SOP Instance UID of the DICOM SEG; empty if none was written.")
    rtstruct_instance: str = Field("", description="SOP Instance UID of the RT Structure Set; empty if none is.")
    reason: str = Field("", description="Why nothing, or no DICOM, was saved; empty if all was.")
