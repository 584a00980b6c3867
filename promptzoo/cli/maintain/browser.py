"""OHIF in headless Chromium, steered with mouse and keys: for tests and for the screenshot of the README."""
from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
from typing import Any, Iterator, Sequence

import numpy as np

ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
             "--ignore-gpu-blocklist", "--disable-background-networking")
SIZE = {"width": 1366, "height": 768}
VIEWS = ("mpr-axial", "mpr-sagittal", "mpr-coronal")


def chromium() -> str:
    """Path of Chromium; empty if it, or playwright, is not here."""
    if importlib.util.find_spec("playwright") is None:
        return ""
    return shutil.which("chromium") or shutil.which("chromium-browser") or ""


@contextlib.contextmanager
def new_page() -> Iterator[Any]:
    """A page of a new browser; what it asked the server for sessions is in ``page.asked``, its errors in
    ``page.errors``, requests to other hosts in ``page.foreign``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        page = browser.new_page(viewport=SIZE)
        page.asked, page.errors, page.foreign = [], [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))

        def note(request: Any) -> None:
            if not request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
                page.foreign.append(request.url)
            if "/promptzoo/sessions" in request.url and request.method != "GET":
                page.asked.append((request.method, request.url, request.post_data_json if request.post_data else None))

        page.on("request", note)
        yield page
        browser.close()


class Viewer:
    """OHIF with the panel, steered as a person does: mouse and keys.

    Args:
        page: of :func:`new_page`.
        url: of the server.

    Attributes:
        actions: clicks and drags so far.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url, self.actions = page, url, 0

    def open(self, image: str) -> "Viewer":
        """Open an image and wait for the panel to know it."""
        self.page.goto(f"{self.url}/promptzoo/viewer/open?image={image}")
        return self.ready()

    def ready(self) -> "Viewer":
        """Wait for the panel to know the image of a page that loads."""
        self.page.wait_for_function("() => window.promptzoo?.session && !window.promptzoo.session.busy", timeout=120000)
        notice = self.page.locator("[data-cy='confirm-and-hide-button']")
        with contextlib.suppress(Exception):
            notice.click(timeout=4000)
        self.page.wait_for_function(
            "(views) => views.every((id) => services.cornerstoneViewportService.getCornerstoneViewport(id)"
            "?.getImageData?.())", arg=list(VIEWS), timeout=120000)
        return self

    def get(self, expression: str) -> Any:
        """The value of an expression in which ``s`` is the panel's session."""
        return self.page.evaluate(f"() => {{ const s = window.promptzoo.session; return {expression}; }}")

    def press(self, name: str) -> None:
        """Press a button of the panel."""
        self.actions += 1
        self.page.locator(f"[data-pz='{name}']").click()

    def settle(self) -> None:
        """Wait until the server has answered and the masks are drawn."""
        self.page.wait_for_timeout(700)
        self.page.wait_for_function("() => !window.promptzoo.session.busy", timeout=120000)

    def jump(self, voxel: Sequence[float]) -> None:
        """Show a voxel ``[column, row, slice]`` in all views."""
        self.page.evaluate("""async (voxel) => {
            const { jumpTo } = await import('/promptzoo/web/viewer.js');
            const { set, space } = window.promptzoo.session;
            jumpTo(set, space.world(voxel));
        }""", [float(value) for value in voxel])
        self.page.wait_for_timeout(300)

    def at(self, voxel: Sequence[float], view: str = "mpr-axial") -> list[float]:
        """Where a voxel is on the page."""
        return self.page.evaluate("""([voxel, id]) => {
            const viewport = services.cornerstoneViewportService.getCornerstoneViewport(id);
            const [x, y] = viewport.worldToCanvas(window.promptzoo.session.space.world(voxel));
            const frame = viewport.element.getBoundingClientRect();
            return [frame.x + x, frame.y + y];
        }""", [[float(value) for value in voxel], view])

    def millimetres_per_pixel(self, view: str) -> float:
        """Size of a pixel on the page."""
        return self.page.evaluate("""(id) => {
            const viewport = services.cornerstoneViewportService.getCornerstoneViewport(id);
            const [a, b] = [viewport.canvasToWorld([0, 0]), viewport.canvasToWorld([1, 0])];
            return Math.hypot(...a.map((value, axis) => value - b[axis]));
        }""", view)

    def click(self, voxel: Sequence[float], view: str = "mpr-axial") -> None:
        """Click a voxel."""
        place = self.at(voxel, view)
        self.actions += 1
        self.hover(place)
        self.page.mouse.click(*place)

    def hover(self, place: Sequence[float]) -> None:
        """Move the mouse to a place of the page; the viewport there becomes the active one."""
        self.page.mouse.move(*place)
        self.page.wait_for_timeout(300)

    def drag(self, *voxels: Sequence[float], view: str = "mpr-axial") -> None:
        """Press the mouse at the first voxel, move through the others, and release it."""
        self.actions += 1
        first, *rest = [self.at(voxel, view) for voxel in voxels]
        self.hover(first)
        self.page.mouse.down()
        for place in rest:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up()

    def shown(self, segmentation: str = "promptzoo") -> np.ndarray:
        """A label map that the viewer shows, ``[column, row, slice]`` uint8 of the series."""
        told = self.page.evaluate("""(id) => {
            const { volumeId } = services.segmentationService.getSegmentation(id).representationData.Labelmap;
            const volume = cornerstone.cache.getVolume(volumeId);
            const data = volume.voxelManager.getCompleteScalarDataArray();
            const found = [];
            data.forEach((value, offset) => { if (value) found.push([offset, value]); });
            return { shape: volume.dimensions, found };
        }""", segmentation)
        labels = np.zeros(int(np.prod(told["shape"])), np.uint8)
        for offset, value in told["found"]:
            labels[offset] = value
        return labels.reshape(told["shape"], order="F")

    def ring(self, voxel: Sequence[float], radius_mm: float, view: str = "mpr-axial", steps: int = 16
             ) -> list[list[float]]:
        """Voxels on a circle around one, in the plane that a viewport shows."""
        return self.page.evaluate("""([voxel, radius, id, steps]) => {
            const camera = services.cornerstoneViewportService.getCornerstoneViewport(id).getCamera();
            const [n, v] = [camera.viewPlaneNormal, camera.viewUp];
            const u = [v[1] * n[2] - v[2] * n[1], v[2] * n[0] - v[0] * n[2], v[0] * n[1] - v[1] * n[0]];
            const { space } = window.promptzoo.session, middle = space.world(voxel);
            return Array.from({ length: steps + 1 }, (_, step) => {
                const [c, s] = [Math.cos, Math.sin].map((way) => radius * way(2 * Math.PI * step / steps));
                return space.voxel(middle.map((value, axis) => value + c * u[axis] + s * v[axis]));
            });
        }""", [[float(value) for value in voxel], radius_mm, view, steps])

    def rotate(self, voxel: Sequence[float], degrees: float, view: str = "mpr-axial") -> None:
        """Tilt the plane of a viewport about the left-right line through a voxel."""
        self.page.evaluate("""([voxel, degrees, id]) => {
            const viewport = services.cornerstoneViewportService.getCornerstoneViewport(id);
            const camera = viewport.getCamera(), angle = degrees * Math.PI / 180;
            const [c, s] = [Math.cos(angle), Math.sin(angle)];
            const turn = ([x, y, z]) => [x, c * y - s * z, s * y + c * z];
            const focalPoint = window.promptzoo.session.space.world(voxel);
            const far = Math.hypot(...camera.position.map((value, axis) => value - camera.focalPoint[axis]));
            const viewPlaneNormal = turn(camera.viewPlaneNormal);
            const position = focalPoint.map((value, axis) => value + far * viewPlaneNormal[axis]);
            viewport.setCamera({ focalPoint, position, viewPlaneNormal, viewUp: turn(camera.viewUp) });
            viewport.render();
        }""", [[float(value) for value in voxel], degrees, view])
        self.page.wait_for_timeout(500)

    def open_seg(self) -> np.ndarray:
        """Open the first stored segmentation of the study as a person does; its label map as :meth:`shown`."""
        page = self.page
        page.locator("[data-cy='side-panel-header-left']").click()
        page.locator("[data-cy='study-browser-thumbnail-no-image']").first.dblclick()
        stored = ("services.segmentationService.getSegmentations()"
                  ".find((entry) => !entry.segmentationId.startsWith('promptzoo'))")
        page.wait_for_function(f"() => Boolean({stored})", timeout=60000)
        self.settle()
        return self.shown(page.evaluate(f"() => {stored}.segmentationId"))

    def stock_points(self, model: str, label: str, voxel: Sequence[float]) -> dict[str, Any]:
        """Click a voxel of a label with MONAI Label's own panel and run a model; the parameters that it sent."""
        page = self.page
        page.locator("[data-cy='side-panel-header-right']").click()
        page.locator("#promptzoo [data-pz='fold']").click()
        page.wait_for_timeout(1000)
        page.locator(".settingsTable button.actionButton").click()
        page.locator("label[for='tab-3']").click()
        page.locator("#tab-3 ~ .tab-content select").first.select_option(model)
        page.locator("#tab-3 ~ .tab-content tr.clickable-row", has_text=label).click()
        page.wait_for_timeout(1000)  # it forgets points while it changes model and label
        self.jump(voxel)
        self.click(voxel)
        page.wait_for_function("() => cornerstoneTools.annotation.state.getAllAnnotations()"
                               ".some((found) => found.metadata.toolName === 'ProbeMONAILabel')", timeout=20000)
        with page.expect_response(lambda answer: "/infer/" in answer.url) as told:
            page.locator("button[title='Run PointPrompts']").click()
        page.wait_for_timeout(2000)
        body = told.value.request.post_data
        return json.JSONDecoder().raw_decode(body[body.index("{"):])[0]
