// Prompts as annotations: the tools that draw them, and the way from an annotation to a prompt and back.
import { freehand } from "./freehand.js";
import { flip } from "./space.js";

const NAMES = {
  point: "PromptzooPoint", box: "PromptzooBox", scribble: "PromptzooScribble", lasso: "PromptzooLasso",
  eraser: "PromptzooEraser",
};
const KINDS = Object.fromEntries(Object.entries(NAMES).map(([kind, name]) => [name, kind]));
const SIGN = { true: "rgb(64, 220, 120)", false: "rgb(255, 80, 80)" };

const tools = () => window.cornerstoneTools;
const groups = () => {
  const service = window.services.toolGroupService;
  return service.getToolGroupIds().filter((id) => !/^SEG|volume3d/.test(id)).map((id) => service.getToolGroup(id));
};

let interrupted = new Map();

/** Make the tools known to the viewer. */
export function registerTools() {
  const T = tools();
  const made = {
    point: class extends T.ProbeTool {
      static toolName = NAMES.point;
      isPointNearTool = (element, { data }, place, proximity) => { // cornerstone: never; so its eraser spares points
        const { viewport } = window.cornerstone.getEnabledElement(element);
        const [x, y] = viewport.worldToCanvas(data.handles.points[0]);
        return Math.hypot(x - place[0], y - place[1]) < proximity;
      };
    },
    box: class extends T.RectangleROITool { static toolName = NAMES.box; },
    scribble: freehand(NAMES.scribble, false),
    lasso: freehand(NAMES.lasso, true),
    eraser: class extends T.EraserTool { static toolName = NAMES.eraser; },
  };
  for (const [kind, tool] of Object.entries(made)) {
    T.addTool(tool);
    const silent = { getTextLines: () => undefined };
    const stroke = { ...silent, calculateStats: false, allowOpenContours: kind === "scribble" };
    const configuration = { point: silent, box: silent, scribble: stroke, lasso: stroke, eraser: {} }[kind];
    for (const group of groups()) {
      if (!group.hasTool?.(NAMES[kind])) group.addTool(NAMES[kind], configuration);
      group.setToolPassive(NAMES[kind]);
    }
  }
}

/** Give the left mouse button to a tool; null gives it back to the viewer. */
export function activate(kind) {
  const primary = tools().Enums.MouseBindings.Primary;
  for (const group of groups()) {
    const current = group.getActivePrimaryMouseButtonTool?.();
    if (current && !KINDS[current]) interrupted.set(group.id, current);
    if (current) group.setToolPassive(current, { removeAllBindings: [{ mouseButton: primary }] });
    const wanted = kind ? NAMES[kind] : interrupted.get(group.id);
    if (wanted) group.setToolActive(wanted, { bindings: [{ mouseButton: primary }] });
  }
}

/** Tell what a person does to prompts: `drawn(annotation)`, `moved(annotation)` once it rests, `removed(uid)`. */
export function listen({ drawn, moved, removed }) {
  const { Events } = tools().Enums;
  const target = window.cornerstone.eventTarget;
  const resting = new Map();
  const kindOf = (event) => KINDS[event.detail?.annotation?.metadata?.toolName];
  target.addEventListener(Events.ANNOTATION_COMPLETED, (event) => {
    if (kindOf(event)) drawn(event.detail.annotation);
  });
  target.addEventListener(Events.ANNOTATION_MODIFIED, (event) => {
    if (!kindOf(event)) return;
    const { annotation } = event.detail;
    clearTimeout(resting.get(annotation.annotationUID));
    resting.set(annotation.annotationUID, setTimeout(() => moved(annotation), 400));
  });
  target.addEventListener(Events.ANNOTATION_REMOVED, (event) => {
    if (!kindOf(event)) return;
    clearTimeout(resting.get(event.detail.annotation.annotationUID));
    removed(event.detail.annotation.annotationUID);
  });
}

/** A key that changes when an annotation is moved, but not when it is only drawn anew. */
export function shapeOf(annotation) {
  const { contour, handles } = annotation.data;
  return JSON.stringify((contour?.polyline ?? handles.points).map((p) => p.map((v) => Math.round(v * 100) / 100)));
}

/**
 * The prompt of an annotation.
 * @param annotation of one of our tools
 * @param space voxel grid of the series
 * @param choice {object_id, positive, depth}: depth in mm of a box drawn on a slice
 */
export function promptOf(annotation, space, { object_id, positive, depth }) {
  const kind = KINDS[annotation.metadata.toolName];
  const { contour, handles } = annotation.data;
  if (kind === "point") {
    const place = handles.points[0];
    if (!space.inside(space.voxel(place))) throw new Error("The click lies outside the image.");
    return { kind, position: flip(place), positive, object_id, space: "world" };
  }
  if (kind === "box") return { kind, ...space.box(handles.points, depth), object_id, space: "voxel" };
  let line = contour.polyline.map((point) => [...point]);
  let told = kind;
  if (kind === "lasso" && space.flat(line.map((point) => space.voxel(point))) < 0) {
    line = space.fill(line); // an outline on an oblique plane has no slice to lie on
    told = "scribble";
  }
  line = line.filter((point) => space.inside(space.voxel(point)));
  if (!line.length) throw new Error("The stroke lies outside the image.");
  return { kind: told, points: line.map(flip), positive, object_id, space: "world" };
}

/** Colour an annotation by its sign, or, if it only encloses, by its object. */
export function paintAnnotation(annotation, prompt, color) {
  const shown = prompt.kind === "box" ? `rgb(${color.join(",")})` : SIGN[prompt.positive !== false];
  const style = { color: shown, colorHighlighted: shown, colorSelected: shown, lineWidth: 2 };
  tools().annotation.config.style.setAnnotationStyles(annotation.annotationUID, style);
}

/** Add an annotation to the viewer again, or one made from a prompt of the session. */
export function putBack(annotation, frameOfReference) {
  tools().annotation.state.addAnnotation(annotation, frameOfReference);
}

/** Take an annotation out of the viewer without deleting the prompt. */
export function takeAway(annotation) {
  tools().annotation.state.removeAnnotation(annotation.annotationUID);
}

/** An annotation for a prompt that was drawn elsewhere; null for prompts without a place. */
export function annotationOf(prompt, space, frameOfReference) {
  if (!NAMES[prompt.kind]) return null;
  const world = prompt.kind === "box" ? boxCorners(prompt) : (prompt.points ?? [prompt.position]).map(flip);
  const indices = world.map((point) => space.voxel(point));
  let axis = 2;
  if (prompt.kind !== "point") {
    const spread = [0, 1, 2].map((a) => Math.max(...indices.map((i) => i[a])) - Math.min(...indices.map((i) => i[a])));
    axis = spread.indexOf(Math.min(...spread));
  }
  const column = (a) => {
    const from = space.world([0, 0, 0]), to = space.world([0, 1, 2].map((n) => (n === a ? 1 : 0)));
    const way = to.map((value, n) => value - from[n]);
    return way.map((value) => value / Math.hypot(...way));
  };
  let points = world;
  if (prompt.kind === "box") {
    const [u, v] = [0, 1, 2].filter((a) => a !== axis);
    const low = indices.reduce((m, i) => m.map((value, a) => Math.min(value, i[a])), [1e9, 1e9, 1e9]);
    const high = indices.reduce((m, i) => m.map((value, a) => Math.max(value, i[a])), [-1e9, -1e9, -1e9]);
    const middle = (low[axis] + high[axis]) / 2;
    points = [[low[u], low[v]], [high[u], low[v]], [low[u], high[v]], [high[u], high[v]]].map(([a, b]) => {
      const index = [0, 0, 0];
      [index[u], index[v], index[axis]] = [a, b, Math.round(middle)];
      return space.world(index);
    });
  }
  const [up] = [0, 1, 2].filter((a) => a !== axis).slice(-1);
  const stroke = prompt.kind === "scribble" || prompt.kind === "lasso";
  return {
    annotationUID: crypto.randomUUID?.() ?? `promptzoo-${Math.random().toString(36).slice(2)}`,
    highlighted: false, isLocked: false, isVisible: true, invalidated: true,
    metadata: { toolName: NAMES[prompt.kind], FrameOfReferenceUID: frameOfReference, viewPlaneNormal: column(axis),
      viewUp: column(up).map((value) => -value), referencedImageId: undefined },
    data: { label: "", cachedStats: {}, frameNumber: 0,
      ...(stroke ? { contour: { closed: prompt.kind === "lasso", polyline: points } } : {}),
      handles: { points: stroke ? [] : points, activeHandleIndex: null,
        textBox: { hasMoved: false, worldPosition: [0, 0, 0], worldBoundingBox: {
          topLeft: [0, 0, 0], topRight: [0, 0, 0], bottomLeft: [0, 0, 0], bottomRight: [0, 0, 0] } } } },
  };
}

/** The eight corners of a box in world space, as LPS. */
function boxCorners({ low, high, axes }) {
  const columns = axes ?? [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  return Array.from({ length: 8 }, (_, n) => {
    const u = [0, 1, 2].map((axis) => ((n >> axis) & 1 ? high[axis] : low[axis]));
    return flip(columns.map((row) => row[0] * u[0] + row[1] * u[1] + row[2] * u[2]));
  });
}
