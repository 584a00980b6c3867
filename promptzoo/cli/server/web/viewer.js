// OHIF and cornerstone: which series is shown, and drawing of label maps over it.

export const SEGMENTATION = "promptzoo";
const UNCERTAINTY = "promptzoo-uncertainty";
const HEAT = [[255, 237, 111], [254, 178, 76], [240, 59, 32], [153, 0, 13]];

const service = (name) => window.services[name];

/** MONAI Label's panel takes the first segmentation for its own, which is "1", and breaks the viewer on any other. */
export function keepMonaiLabelFirst() {
  const segmentations = service("segmentationService");
  const all = segmentations.getSegmentations.bind(segmentations);
  const isTheirs = ({ segmentationId }) => segmentationId === "1";
  segmentations.getSegmentations = () => {
    const found = all().map((entry) => (entry.config ? entry : { ...entry, config: { segments: {} } }));
    return [...found.filter(isTheirs), ...found.filter((entry) => !isTheirs(entry))];
  };
}

/** Resolves when the viewer shows an image. */
export async function viewerReady() {
  for (;;) {
    try {
      if (window.services?.segmentationService && window.cornerstoneTools && shownSeries()) return;
    } catch { /* services exist before they work */ }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

export function displaySets() {
  return service("displaySetService").getActiveDisplaySets();
}

/** The image series in the active viewport, or in the first that has one; its display set. */
export function shownSeries() {
  const { viewports, activeViewportId } = service("viewportGridService").getState();
  const known = new Map(displaySets().map((set) => [set.displaySetInstanceUID, set]));
  const order = [viewports.get(activeViewportId), ...viewports.values()].filter(Boolean);
  for (const viewport of order) {
    for (const uid of viewport.displaySetInstanceUIDs ?? []) {
      const set = known.get(uid);
      const image = set?.Modality === "SEG" ? known.get(set.referencedDisplaySetInstanceUID) : set;
      if (image?.imageIds?.length || image?.images?.length) return image;
    }
  }
  return null;
}

/** Show the series that the address asks for: a protocol that makes planes of a volume takes the first that it can. */
export async function showAskedSeries() {
  const asked = new URL(window.location.href).searchParams.get("initialSeriesInstanceUID");
  const set = displaySets().find((entry) => entry.SeriesInstanceUID === asked && entry.Modality !== "SEG");
  if (!set || shownSeries()?.SeriesInstanceUID === asked) return;
  const grid = service("viewportGridService");
  const { activeViewportId } = grid.getState();
  grid.setDisplaySetsForViewports(
    service("hangingProtocolService").getViewportsRequireUpdate(activeViewportId, set.displaySetInstanceUID));
  for (let wait = 0; wait < 100 && !viewportsOf(set).length; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Ids of the viewports that show a display set as a volume or stack. */
export function viewportsOf(set) {
  const { viewports } = service("viewportGridService").getState();
  return [...viewports.entries()]
    .filter(([id, viewport]) => viewport.displaySetInstanceUIDs?.includes(set.displaySetInstanceUID)
      && service("cornerstoneViewportService").getCornerstoneViewport(id))
    .map(([id]) => id);
}

/**
 * Do what adds a layer to a viewport without a change of zoom, slice or plane. The layer comes with a later drawing,
 * which shows the whole image anew, and on planes that follow no axis never ends (cornerstone's setViewReference).
 */
export async function keepingView(id, add) {
  const viewport = service("cornerstoneViewportService").getCornerstoneViewport(id);
  const camera = viewport.getCamera();
  const layers = viewport.getActors().length;
  viewport.resetCamera();
  await add();
  for (let wait = 0; wait < 40 && viewport.getActors().length === layers; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  viewport.setCamera(camera);
  viewport.render();
}

async function ensure(set, id, label, opacity) {
  const segmentations = service("segmentationService");
  if (!segmentations.getSegmentation(id)) {
    await segmentations.createLabelmapForDisplaySet(set, {
      segmentationId: id, label, segments: { 1: { label: "object 1", active: true } },
    });
  }
  for (const viewport of viewportsOf(set)) {
    const there = segmentations.getSegmentationRepresentations(viewport, { segmentationId: id });
    if (there.length) continue;
    await keepingView(viewport, () =>
      segmentations.addSegmentationRepresentation(viewport, { segmentationId: id, type: "Labelmap" }));
  }
  return segmentations.getLabelmapVolume(id);
}

function paint(id, volume, data, shape) {
  const [columns, rows, slices] = volume.dimensions;
  if (columns !== shape[0] || rows !== shape[1] || slices !== shape[2]) {
    throw new Error(`The viewer shows ${volume.dimensions} voxels, the server answered ${shape}.`);
  }
  const held = volume.voxelManager.getCompleteScalarDataArray();
  const wide = data.some((value) => value > 255);
  if (wide && held instanceof Uint8Array) throw new Error("The viewer can show objects 1 to 255 only.");
  volume.voxelManager.setCompleteScalarDataArray(held.constructor.from(data));
  window.cornerstoneTools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(id);
}

/** Draw a label map; objects as [{object_id, name, color}]. */
export async function showLabels(set, { data, shape }, objects) {
  const segmentations = service("segmentationService");
  const volume = await ensure(set, SEGMENTATION, "promptzoo", 0.4);
  const known = segmentations.getSegmentation(SEGMENTATION).segments;
  for (const object of objects) {
    const label = object.name || `object ${object.object_id}`;
    if (!known[object.object_id]) {
      segmentations.addSegment(SEGMENTATION, { segmentIndex: object.object_id, label });
    } else if (known[object.object_id].label !== label) {
      segmentations.setSegmentLabel(SEGMENTATION, object.object_id, label);
    }
    for (const viewport of viewportsOf(set)) {
      segmentations.setSegmentColor(viewport, SEGMENTATION, object.object_id, [...object.color, 255]);
    }
  }
  paint(SEGMENTATION, volume, data, shape);
}

/** Draw uncertainty (bits) in four steps from 0.3; null takes it away. */
export async function showUncertainty(set, answer) {
  const segmentations = service("segmentationService");
  if (!answer) {
    if (segmentations.getSegmentation(UNCERTAINTY)) segmentations.remove(UNCERTAINTY);
    return;
  }
  const volume = await ensure(set, UNCERTAINTY, "uncertainty", 0.5);
  HEAT.forEach((color, step) => {
    const known = segmentations.getSegmentation(UNCERTAINTY).segments;
    const label = `${(0.3 + 0.175 * step).toFixed(2)} bits and more`;
    if (!known[step + 1]) segmentations.addSegment(UNCERTAINTY, { segmentIndex: step + 1, label });
    else segmentations.setSegmentLabel(UNCERTAINTY, step + 1, label);
    for (const viewport of viewportsOf(set)) {
      segmentations.setSegmentColor(viewport, UNCERTAINTY, step + 1, [...color, 255]);
    }
  });
  const steps = Uint8Array.from(answer.data, (bits) => (bits < 0.3 ? 0 : Math.min(4, 1 + Math.floor((bits - 0.3) / 0.175))));
  paint(UNCERTAINTY, volume, steps, answer.shape);
}

/** Make the viewport under a place of the page the active one: OHIF spends the first click in another one on that. */
export function activateUnder(x, y) {
  const grid = service("viewportGridService");
  const { viewports, activeViewportId } = grid.getState();
  for (const id of viewports.keys()) {
    const frame = service("cornerstoneViewportService").getCornerstoneViewport(id)?.element.getBoundingClientRect();
    const inside = frame && x >= frame.left && x <= frame.right && y >= frame.top && y <= frame.bottom;
    if (inside && id !== activeViewportId) grid.setActiveViewportId(id);
  }
}

/** Draw everything anew. */
export function render() {
  for (const engine of window.cornerstone.getRenderingEngines()) engine.render();
}

/** Move the viewports to a place (LPS millimetres). */
export function jumpTo(set, point) {
  for (const id of viewportsOf(set)) {
    const viewport = service("cornerstoneViewportService").getCornerstoneViewport(id);
    const camera = viewport.getCamera();
    const off = camera.viewPlaneNormal.reduce(
      (sum, value, axis) => sum + value * (point[axis] - camera.focalPoint[axis]), 0);
    const moved = (place) => place.map((value, axis) => value + off * camera.viewPlaneNormal[axis]);
    viewport.setCamera({ focalPoint: moved(camera.focalPoint), position: moved(camera.position) });
    viewport.render();
  }
}
