"""What the panel in OHIF asks beside sessions: the bundles, which image a series is, advice, and the next case."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Optional

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from promptzoo.cli.choice import choose_bundle
from promptzoo.cli.server.saving import Archive
from promptzoo.core.advice import recommend
from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import NotFoundError, UnclearTextError, complain
from promptzoo.core.geometry import Grid
from promptzoo.data.colors import OBJECT_COLORS
from promptzoo.text.wording import read_wording

PREFIX = "/promptzoo/viewer"


class BundleView(BaseModel):
    """A bundle that can be chosen."""

    name: str
    title: str
    description: str
    dimensions: int
    prompts: list[str] = Field(description="Kinds of prompt that it takes.")
    classes: list[str] = Field(description="Names that class prompts can say.")
    version: str


class ConfigView(BaseModel):
    """What the panel offers."""

    version: str
    bundles: list[BundleView]
    strategies: dict[str, str] = Field(description="Description by name.")
    colors: list[tuple[int, int, int]] = Field(description="Usual colours of objects 1, 2, …; then from the start.")


class SeriesView(BaseModel):
    """Which image a DICOM series is."""

    image: str
    study: str
    series: str
    shape: tuple[int, int, int] = Field(description="Voxels of the series along [column, row, slice].")
    affine: list[list[float]] = Field(description="[4, 4] from those voxel indices to RAS+ millimetres.")


class NextView(BaseModel):
    """The next case."""

    image: Optional[str] = Field(description="None if there is nothing left to do.")
    study: str = ""
    series: str = ""
    strategy: str
    reason: str


class AdviceView(BaseModel):
    """The prompt to begin with, as measured on other objects."""

    bundle: str
    recommended_prompt: Optional[str] = Field(description="box or point; None where nothing can be advised.")
    count: int = 0
    clicks: int = Field(0, description="What it costs; a box counts two.")
    margin: Optional[float] = Field(None, description="Larger than the object by this fraction of its side; boxes.")
    expected_dice: Optional[float] = None
    n: int = Field(0, description="Objects that it was measured on.")
    reason: str = Field(description="What the advice rests on, or why there is none.")


class WordsView(BaseModel):
    """How a text was read."""

    bundle: str = Field(description="Who can answer it; empty if nobody can.")
    names: list[str] = Field([], description="What it asks for, in plain English.")
    note: str = Field("", description="What was corrected, and what is understood but not known.")
    question: str = Field("", description="What to ask the person; empty if the text is clear.")
    candidates: list[str] = Field([], description="What may be meant, the likeliest first.")


def viewer_router(version: str, bundles: Callable[[], Mapping[str, BundleInfo]],
                  strategies: Callable[[], Mapping[str, str]],
                  choose: Callable[[str, str], Mapping[str, Any]], archive: Archive | None,
                  grid_of: Callable[[str], Grid]) -> APIRouter:
    """The routes.

    Args:
        version: of promptzoo.
        bundles: those that can answer.
        strategies: description by name of what chooses the next case.
        choose: the next case of a strategy for a user: ``id`` (None if none is left) and ``reason``. Raises
            NotFoundError for an unknown strategy.
        archive: which series an image is; None if there is no DICOM.
        grid_of: grid of an image by its id.
    """
    router = APIRouter(prefix=PREFIX, tags=["viewer"])

    @router.get("/config")
    def config() -> ConfigView:
        """Bundles and strategies."""
        return ConfigView(version=version, strategies=dict(strategies()), colors=list(OBJECT_COLORS), bundles=[
            BundleView(name=b.name, title=b.title, description=b.description, dimensions=b.dimensions,
                       prompts=sorted(b.prompts), classes=_classes(b), version=b.version)
            for b in bundles().values()])

    @router.get("/series/{series}")
    def series(series: str) -> SeriesView:
        """The image that a series is."""
        if archive is None:
            raise NotFoundError(complain("DICOM series", series, "none, this server has no DICOM store"))
        link = archive.link(archive.image_of(series))
        grid = link.voxels.series if link.voxels is not None else grid_of(link.image_id)
        shape = (int(grid.shape[0]), int(grid.shape[1]), int(grid.shape[2]))
        return SeriesView(image=link.image_id, study=link.study_uid, series=link.series_uid, shape=shape,
                          affine=grid.affine.tolist())

    @router.get("/advice")
    def advice(bundle: str = "auto", modality: str = "", label: str = "", image: str = "") -> AdviceView:
        """Which prompt to begin with on an object, by what the bundle's study measured.

        Of `auto` the bundle counts that would be chosen for the image. The modality may be DICOM's code.
        """
        known = bundles()
        if bundle == "auto" and image:
            bundle = choose_bundle(grid_of(image), (), known.values()).name
        if bundle not in known:
            raise NotFoundError(complain("bundle", bundle, ", ".join(known) or "none"))
        told = recommend(known[bundle], modality, label)
        if told is None:
            return AdviceView(bundle=bundle, recommended_prompt=None, reason="nothing was measured on enough objects")
        return AdviceView(bundle=bundle, recommended_prompt=told.prompt, count=told.count, clicks=told.clicks,
                          margin=told.margin, expected_dice=told.expected_dice, n=told.n,
                          reason=f"{told.condition}: Dice {told.expected_dice:.2f} on {told.n} objects, {told.group}")

    @router.get("/words")
    def words(text: str = Query(max_length=1000), bundle: str = "auto", image: str = "") -> WordsView:
        """What a text asks for, among the classes that a bundle knows; `auto`: the one that would be chosen."""
        known = bundles()
        try:
            if bundle == "auto":
                kinds, grid = ("text",), grid_of(image) if image else Grid((2, 2, 2), np.eye(4))
                bundle = choose_bundle(grid, kinds, known.values(), (), [text]).name
            if bundle not in known:
                raise NotFoundError(complain("bundle", bundle, ", ".join(known) or "none"))
            if "text" in known[bundle].prompts and not known[bundle].spoken_classes:
                return WordsView(bundle=bundle, names=[text.strip()])
            told = read_wording(text, known[bundle].spoken_classes)
        except UnclearTextError as error:
            return WordsView(bundle="", question=str(error), candidates=list(error.candidates))
        return WordsView(bundle=bundle, names=list(told.names), note=told.note)

    @router.get("/next")
    def next_case(strategy: str = "first", user: str = Query("", max_length=200)) -> NextView:
        """The next case for a user, and why it. Nobody else is given it while they work on it."""
        chosen = choose(strategy, user)
        image, reason = chosen["id"], str(chosen["reason"])
        if image is None or archive is None:
            return NextView(image=image, strategy=strategy, reason=reason)
        link = archive.link(image)
        return NextView(image=image, study=link.study_uid, series=link.series_uid, strategy=strategy, reason=reason)

    @router.get("/open", response_class=RedirectResponse, status_code=303)
    def open_image(image: str) -> RedirectResponse:
        """Open an image in OHIF."""
        if archive is None:
            raise NotFoundError(complain("image to open in OHIF", image, "none, this server has no DICOM store"))
        link = archive.link(image)
        return RedirectResponse(f"/ohif/monai-label?StudyInstanceUIDs={link.study_uid}"
                                f"&initialSeriesInstanceUID={link.series_uid}", 303)

    return router


def _classes(bundle: BundleInfo) -> list[str]:
    """Names that class prompts can say."""
    return list(bundle.label.get("labels") or ()) if {"class", "text"} & set(bundle.prompts) else []
