// DICOM SEG of the study over the images of their series.
import { displaySets, keepingView, viewportsOf } from "./viewer.js";

const service = (name) => window.services[name];
const shownAs = new Map(); // SOP Instance UID of a SEG -> id of its segmentation

/** The SEGs of a series, latest first: [{uid, title, shown}]. */
export function storedSegs(series) {
  return displaySets().filter((set) => set.Modality === "SEG" && referenced(set)?.displaySetInstanceUID
    === series.displaySetInstanceUID).map((set) => ({
    uid: set.SOPInstanceUID,
    title: [set.SeriesDescription || "segmentation", when(set.instances?.[0] ?? set.instance ?? set)].filter(Boolean).join(", "),
    shown: Boolean(service("segmentationService").getSegmentation(shownAs.get(set.SOPInstanceUID))),
  })).reverse();
}

const referenced = (set) => displaySets().find((other) =>
  other.displaySetInstanceUID === set.referencedDisplaySetInstanceUID
  || (!set.referencedDisplaySetInstanceUID && other.SeriesInstanceUID === set.referencedSeriesInstanceUID));

const when = ({ ContentDate: date = "", ContentTime: time = "" }) => (date
  ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6, 8)} ${time.slice(0, 2)}:${time.slice(2, 4)}` : "");

/** Show a SEG in all viewports of its series; id of its segmentation in the viewer. */
export async function showStored(series, uid) {
  const segmentations = service("segmentationService");
  const known = shownAs.get(uid);
  if (segmentations.getSegmentation(known)) return known;
  const set = displaySets().find((entry) => entry.Modality === "SEG" && entry.SOPInstanceUID === uid);
  await set.load({ headers: service("userAuthenticationService").getAuthorizationHeader() ?? {} });
  const id = await segmentations.createSegmentationForSEGDisplaySet(set);
  shownAs.set(uid, id);
  for (const viewport of viewportsOf(series)) {
    await keepingView(viewport, () =>
      segmentations.addSegmentationRepresentation(viewport, { segmentationId: id, type: "Labelmap" }));
  }
  return id;
}

/** Take a SEG out of the viewer. */
export function hideStored(uid) {
  const id = shownAs.get(uid);
  if (service("segmentationService").getSegmentation(id)) service("segmentationService").remove(id);
}

/**
 * Where an event of the page opens a SEG of a multiplanar view: its SOP Instance UID, otherwise null. OHIF would put the
 * SEG in the place of the images and then cannot load it (VolumeViewport.setVolumes without a volume).
 */
export function segOpened(event, series) {
  const id = event.target.closest?.("[id^='thumbnail-']")?.id.slice("thumbnail-".length);
  const set = displaySets().find((entry) => entry.Modality === "SEG" && entry.displaySetInstanceUID === id);
  return set && referenced(set) === series && viewportsOf(series).length > 1 ? set.SOPInstanceUID : null;
}
