"""More of the panel in OHIF: lasso, eraser, words, rotated planes, next case, stored SEG, MONAI Label's own panel."""
import sys

import numpy as np
import pytest

from promptzoo.cli.maintain.browser import Viewer, chromium, new_page
from promptzoo.core.locations import bundles_dir
from promptzoo.data.nifti import write_nifti
from promptzoo.data.phantoms import inner_point, torso_ct

from .conftest import SERIES_UID, dice, free_port, running, write_series
from .words import TISSUES, write_bundle

pytestmark = pytest.mark.skipif(not chromium(), reason="Chromium or playwright is not here: apt-get install chromium, "
                                                       "pip install playwright")

SECOND = f"{SERIES_UID}.9"
"""Another series of the same study."""


@pytest.fixture(scope="module")
def torso():
    """A torso, its labels and their values by name."""
    volume, labels, names = torso_ct(1, (96, 72, 56), (4.0, 4.0, 5.0))
    return volume, labels, {name: value for value, name in names.items()}


@pytest.fixture(scope="module")
def server(torso, tmp_path_factory):
    """``promptzoo serve`` over two studies, one with two series; the bundles of this installation and one for words."""
    folder = tmp_path_factory.mktemp("tools")
    studies, bundles, port = folder / "cases", folder / "bundles", free_port()
    for path in (studies, bundles):
        path.mkdir()
    write_series(torso[0], studies / "scanner", SERIES_UID)
    write_nifti(studies / "other.nii.gz", np.round(torso[0].data[:, :, ::-1]).astype(np.int16), torso[0].grid)
    small, _, _ = torso_ct(2, (48, 40, 28), (8.0, 8.0, 10.0))
    write_series(small, studies / "again", SECOND, study=f"{SERIES_UID}.0")
    for bundle in bundles_dir().iterdir():
        (bundles / bundle.name).symlink_to(bundle)
    write_bundle(bundles)
    command = [sys.executable, "-m", "promptzoo.cli", "serve", "--studies", str(studies), "--port", str(port),
               "--bundles", str(bundles), "--engine", "torch", "--no-preload"]
    with running(command, port, folder / "server") as found:
        yield found


@pytest.fixture(scope="module")
def page():
    """A browser page."""
    with new_page() as found:
        yield found


@pytest.fixture
def viewer(server, page):
    """The torso in OHIF, with no session yet."""
    page.goto("about:blank")
    found = Viewer(page, server.url).open(SERIES_UID)
    if not page.locator("[data-pz='save']").is_disabled():
        found.press("new")
        found.settle()
        page.locator("[data-pz='bundle']").select_option("auto")
        found.settle()
    return found


def kinds(viewer):
    """The kinds of the prompts in force, as the server knows them."""
    return [entry["prompt"]["kind"] for entry in viewer.get("s.view?.prompts ?? []")]


def displayed(viewer):
    """The display sets of all viewports."""
    return viewer.get("[...services.viewportGridService.getState().viewports.values()]"
                      ".flatMap((viewport) => viewport.displaySetInstanceUIDs)")


def test_a_lasso_and_a_point_that_is_moved_and_erased(viewer, torso):
    liver = torso[1] == torso[2]["liver"]
    at = np.array(inner_point(liver), float)
    viewer.jump(at)
    viewer.press("lasso+")
    ring = [at + 7 * np.array([np.cos(t), np.sin(t), 0]) for t in np.linspace(0, 2 * np.pi, 16)]
    viewer.drag(*ring)
    viewer.settle()
    lasso = viewer.page.asked[-1][2]["prompts"][0]
    assert lasso["kind"] == "lasso" and lasso["positive"]
    inside = viewer.shown() == 1
    assert inside[tuple(at.astype(int))] and dice(inside, liver) > 0.3  # it arrived; 0.48 with today's weights
    assert viewer.get("s.drawings.size") == 1

    viewer.press("point-")
    lung = np.array(inner_point(torso[1] == torso[2]["lung right"]), float)
    viewer.jump(lung)
    viewer.click(lung)
    viewer.settle()
    viewer.drag(lung, lung + [4, 0, 0])
    viewer.settle()
    moved = viewer.get("s.view.prompts.map((entry) => entry.prompt)")
    assert [prompt["kind"] for prompt in moved] == ["lasso", "point"]
    grid = np.array(viewer.get("s.space.affine"))
    voxel = np.linalg.solve(grid[:3, :3], np.array(moved[1]["position"]) - grid[:3, 3])
    assert np.abs(voxel - (lung + [4, 0, 0])).max() <= 1.0, "the point is where it was dropped, and only there"

    viewer.press("eraser")
    viewer.click(lung + [4, 0, 0])
    viewer.settle()
    assert kinds(viewer) == ["lasso"] and viewer.get("s.drawings.size") == 1
    assert np.array_equal(viewer.shown() == 1, inside), "without the prompt the answer is what it was"
    assert not viewer.page.errors


def test_words(viewer, torso):
    """Words become text prompts on objects of that name; words that mean nothing are answered with a question."""
    page, bar = viewer.page, viewer.page.locator("[data-pz='text']")
    listed = page.locator("#pz-classes option").evaluate_all("(all) => all.map((option) => option.value)")
    assert set(TISSUES) <= set(listed)
    page.locator("[data-pz='bundle']").select_option("words_3d")
    viewer.settle()
    bar.fill("bone")
    bar.press("Enter")
    viewer.settle()
    assert page.asked[-1][2]["prompts"] == [{"kind": "text", "text": "bone", "object_id": 1}]
    low, high = TISSUES["bone"]
    bone = np.round(torso[0].data)
    assert np.array_equal(viewer.shown() == 1, (bone >= low) & (bone <= high))
    bar.fill("please show me all of the air")
    bar.press("Enter")
    viewer.settle()
    assert page.asked[-1][2]["prompts"] == [{"kind": "text", "text": "air", "object_id": 2}]
    assert (viewer.shown() == 2).any()
    page.locator(".pz-object [data-pz='adopt']").first.click()
    viewer.settle()
    objects = viewer.get("s.objects.map((object) => object.name)")
    assert kinds(viewer).count("box") == 2 and objects[-1] == "bone 2", "each box is an object that can be edited"
    assert viewer.get("s.view.bundle") != "words_3d" and viewer.get("s.drawings.size") == 2
    viewer.press("new")
    viewer.settle()
    assert viewer.get("s.objects.map((object) => object.name)") == [""]
    asked, message = len(page.asked), page.locator("[data-pz='message']")
    bar.fill("qwertz")
    bar.press("Enter")
    message.get_by_text("What should be found?").wait_for()
    assert "qwertz" in message.inner_text() and len(page.asked) == asked, "nothing is asked of the bundle"
    page.locator("[data-pz='bundle']").select_option("interactive_refinement_3d")
    viewer.settle()
    assert bar.is_disabled() and "words" in bar.get_attribute("placeholder")
    assert not page.errors


def test_organs_by_their_names(viewer, torso):
    """What is typed is what is found, each organ an object of its own; what is not known is asked back."""
    page, bar = viewer.page, viewer.page.locator("[data-pz='text']")
    bar.fill("both kidneys")
    bar.press("Enter")
    viewer.settle()
    names = viewer.get("s.objects.map((object) => [object.object_id, object.name])")
    assert names == [[1, "left kidney"], [2, "right kidney"]]
    found = viewer.shown()
    for number, name in ((1, "kidney left"), (2, "kidney right")):
        assert dice(found == number, torso[1] == torso[2][name]) > 0.5, name
    bar.fill("kidny stone thing")
    bar.press("Enter")
    page.locator("[data-pz='message'].pz-bad").get_by_text("?").wait_for()
    assert len(viewer.get("s.objects")) == 2 and not page.errors


def test_through_slices_and_advice(viewer, torso):
    """The study of a bundle proposes a tool; a box on one slice is carried through the volume where that is wished."""
    kidney = torso[1] == torso[2]["kidney left"]
    k = int(inner_point(kidney)[2])
    plane = np.argwhere(kidney[:, :, k])
    viewer.page.locator("[data-pz='bundle']").select_option("sam_prompt_study")
    viewer.page.locator("[data-pz='message']").get_by_text("Begin with").wait_for()
    assert viewer.page.locator(".pz-tools .pz-chosen").count() == 1
    viewer.jump((*plane.mean(0), k))
    if viewer.page.locator("[data-pz='box'].pz-chosen").count() == 0:
        viewer.press("box")
    viewer.drag((*plane.min(0), k), (*plane.max(0), k))
    viewer.settle()
    assert set(np.argwhere(viewer.shown())[:, 2]) == {k}
    through = viewer.page.locator("[data-pz='through']")
    through.check()
    viewer.settle()
    carried = viewer.shown() == 1
    near = np.s_[:, :, k - 1:k + 2]  # how far it is carried is measured elsewhere
    assert carried[:, :, k - 1].any() and carried[:, :, k + 1].any() and dice(carried[near], kidney[near]) > 0.6
    through.uncheck()
    viewer.settle()
    assert set(np.argwhere(viewer.shown())[:, 2]) == {k} and not viewer.page.errors


def test_a_box_for_the_sam_like_bundle(viewer, torso):
    """No code of the app knows the bundle: its metadata says what it takes."""
    kidney = torso[1] == torso[2]["kidney left"]
    k = int(inner_point(kidney)[2])
    plane = np.argwhere(kidney[:, :, k])
    viewer.page.locator("[data-pz='bundle']").select_option("sam_box_finetune")
    viewer.settle()
    viewer.jump((*plane.mean(0), k))
    viewer.press("box")
    viewer.drag((*plane.min(0), k), (*plane.max(0), k))
    viewer.settle()
    found = viewer.shown()
    assert kinds(viewer) == ["box"] and viewer.get("s.view.bundle") == "sam_box_finetune"
    assert set(np.argwhere(found)[:, 2]) == {k} and dice(found[:, :, k] == 1, kidney[:, :, k]) > 0.7
    viewer.page.locator("[data-pz='bundle']").select_option("auto")
    viewer.settle()
    assert not viewer.page.errors


def test_rotated_planes(viewer, torso):
    """On planes that follow no axis of the voxels a click is the voxel under the mouse, a lasso its filled outline."""
    liver = torso[1] == torso[2]["liver"]
    at = np.array(inner_point(liver), float)
    viewer.jump(at)
    viewer.rotate(at, 25.0)
    viewer.press("point+")
    viewer.click(at)
    viewer.settle()
    told = np.array(viewer.page.asked[-1][2]["prompts"][0]["position"])
    grid = np.array(viewer.get("s.space.affine"))
    assert np.linalg.norm(told - (grid[:3, :3] @ at + grid[:3, 3])) <= 1.5 * viewer.millimetres_per_pixel("mpr-axial")
    viewer.press("undo")
    viewer.settle()
    viewer.press("lasso+")
    ring = viewer.ring(at, 14.0)
    viewer.drag(*ring)
    viewer.settle()
    stroke = viewer.page.asked[-1][2]["prompts"][0]
    assert stroke["kind"] == "scribble"
    points = (np.array(stroke["points"]) - grid[:3, 3]) @ np.linalg.inv(grid[:3, :3]).T
    assert np.ptp(points[:, 2]) > 1, "the plane leaves the slice"
    away = np.linalg.norm((points - at) @ grid[:3, :3].T, axis=1)
    assert away.max() <= 14.0 + 2 * viewer.millimetres_per_pixel("mpr-axial") and away.min() < 4
    assert viewer.shown()[tuple(at.astype(int))] == 1
    assert not viewer.page.errors


def test_the_saved_seg_opens_in_ohif_and_the_next_case_comes(viewer, torso):
    lung = torso[1] == torso[2]["lung right"]
    at = inner_point(lung)
    viewer.jump(at)
    viewer.press("point+")
    viewer.click(at)
    viewer.settle()
    found = viewer.shown()
    viewer.press("save")
    viewer.settle()
    viewer.open(SERIES_UID)
    assert np.array_equal(viewer.open_seg(), found)
    assert displayed(viewer) == [viewer.get("s.set.displaySetInstanceUID")] * 3, "the images stay where they are"
    assert viewer.page.locator("[data-seg]").is_checked()
    viewer.press("next")
    viewer.page.wait_for_url(lambda url: not url.endswith(SERIES_UID), timeout=60000)
    viewer.ready()
    image = viewer.get("s.series.image")
    assert image in ("other", SECOND)
    assert viewer.page.locator("[data-pz='message']").inner_text().startswith(f"{image}: ")


def test_the_series_asked_for_is_shown(viewer):
    """OHIF's protocol for planes of a volume takes the first series of the study, whichever is asked for."""
    viewer.open(SECOND)
    assert viewer.get("s.series.image") == SECOND and viewer.get("s.space.shape") == [48, 40, 28]
    assert displayed(viewer) == [viewer.get("s.set.displaySetInstanceUID")] * 3


def test_the_panel_of_monai_label_goes_on_working(viewer, torso):
    """Connect, click, run: as without our panel."""
    lung = torso[1] == torso[2]["lung right"]
    at = [int(value) for value in inner_point(lung)]
    told = viewer.stock_points("interactive_refinement_3d", "object", at)
    assert told["foreground"] == [at] and told["background"] == []
    assert dice(viewer.shown("1") > 0, lung) > 0.6
    assert not viewer.page.errors
