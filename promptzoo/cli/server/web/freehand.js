// Drawing by hand on every plane: cornerstone's own tool refuses planes that follow no axis of the voxels.

/** A tool that draws a line. @param toolName of the annotations  @param closed whether the line ends where it began */
export function freehand(toolName, closed) {
  return class extends window.cornerstoneTools.PlanarFreehandROITool {
    static toolName = toolName;

    constructor(...given) {
      super(...given);
      const onAxes = this.addNewAnnotation; // a field of the object, not a method of the class
      this.addNewAnnotation = (event) => {
        const { viewport } = window.cornerstone.getEnabledElement(event.detail.element);
        return alongAxes(viewport) ? onAxes(event) : draw(event.detail, viewport, toolName, closed);
      };
    }
  };
}

/** Whether the plane of a viewport follows the axes of its image. */
function alongAxes(viewport) {
  const { direction } = viewport.getImageData();
  const { viewPlaneNormal } = viewport.getCamera();
  return [0, 3, 6].some((at) => Math.abs([0, 1, 2].reduce((sum, n) => sum + direction[at + n] * viewPlaneNormal[n], 0)) > 0.9999);
}

/** Follow the mouse until its button is released; the annotation. */
function draw({ element, currentPoints }, viewport, toolName, closed) {
  const { annotation: annotations, utilities, Enums } = window.cornerstoneTools;
  const { viewPlaneNormal, viewUp } = viewport.getCamera();
  const corner = [0, 0, 0];
  const annotation = {
    highlighted: false, isLocked: false, isVisible: true, invalidated: false,
    metadata: { toolName, viewPlaneNormal, viewUp, FrameOfReferenceUID: viewport.getFrameOfReferenceUID() },
    data: { label: "", cachedStats: {}, frameNumber: 0, contour: { closed: false, polyline: [[...currentPoints.world]] },
      handles: { points: [], activeHandleIndex: null, textBox: { hasMoved: false, worldPosition: corner,
        worldBoundingBox: { topLeft: corner, topRight: corner, bottomLeft: corner, bottomRight: corner } } } },
  };
  annotations.state.addAnnotation(annotation, element);
  const render = () => utilities.triggerAnnotationRenderForViewportIds([viewport.id]);
  const move = (event) => {
    event.stopPropagation();
    const frame = element.getBoundingClientRect();
    annotation.data.contour.polyline.push([...viewport.canvasToWorld([event.clientX - frame.x, event.clientY - frame.y])]);
    render();
  };
  const end = () => {
    document.removeEventListener("mousemove", move, true);
    document.removeEventListener("mouseup", end, true);
    annotation.data.contour.closed = closed;
    render();
    window.cornerstone.triggerEvent(window.cornerstone.eventTarget, Enums.Events.ANNOTATION_COMPLETED, { annotation });
  };
  document.addEventListener("mousemove", move, true);
  document.addEventListener("mouseup", end, true);
  return annotation;
}
