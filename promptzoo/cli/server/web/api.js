// The server's answers as JSON, or an Error with its readable reason.

const SESSIONS = "/promptzoo/sessions";
const LEARNING = "/promptzoo/learning";

async function failure(answer) {
  let reason = `${answer.status} ${answer.statusText}`;
  try {
    const detail = (await answer.json()).detail;
    reason = detail.reason ?? reason;
    if (detail.request_id) reason += ` [${detail.request_id}]`;
  } catch { /* no JSON: the status must do */ }
  const error = new Error(reason);
  error.status = answer.status;
  return error;
}

/** The header of a login that OHIF was configured for. */
const login = () => window.services?.userAuthenticationService?.getAuthorizationHeader?.() ?? {};

async function send(method, path, body) {
  const options = { method, credentials: "same-origin", headers: { ...login() } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached. Your prompts are safe on it; try again.");
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

const json = async (method, path, body) => (await send(method, path, body)).json();

/** Raw voxels [column, row, slice], first index fastest. */
async function voxels(path) {
  const answer = await send("GET", path);
  const bytes = await answer.arrayBuffer();
  const types = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
  const type = types[answer.headers.get("X-Promptzoo-Dtype")];
  if (!type) throw new Error("The server answered voxels of an unknown type.");
  return { data: new type(bytes), shape: JSON.parse(answer.headers.get("X-Promptzoo-Shape")) };
}

const at = (expected) => (expected === undefined ? "" : `expected_sequence=${expected}&`);

export const api = {
  config: () => json("GET", "/promptzoo/viewer/config"),
  series: (uid) => json("GET", `/promptzoo/viewer/series/${uid}`),
  advice: (image, bundle, modality) => json("GET", "/promptzoo/viewer/advice?" + new URLSearchParams({ image, bundle, modality })),
  prepare: (image, bundle) => json("POST", "/promptzoo/viewer/prepare", { image, bundle }),
  leave: (image) => send("DELETE", `/promptzoo/viewer/prepare?image=${encodeURIComponent(image)}`),
  words: (text, image, bundle) => json("GET", "/promptzoo/viewer/words?" + new URLSearchParams({ text, image, bundle })),
  next: (strategy) => json("GET", `/promptzoo/viewer/next?strategy=${encodeURIComponent(strategy)}`),
  sessions: (image) => json("GET", `${SESSIONS}?limit=5&image=${encodeURIComponent(image)}`),
  create: (image, bundle, kinds, texts) => json("POST", SESSIONS, { image, bundle, kinds, texts }),
  state: (id) => json("GET", `${SESSIONS}/${id}?space=world`),
  add: (id, prompts, objects, through_slices, seen) =>
    json("POST", `${SESSIONS}/${id}/prompts?${at(seen)}grid=series`, { prompts, objects, through_slices }),
  remove: (id, number, seen) => json("DELETE", `${SESSIONS}/${id}/prompts/${number}?${at(seen)}`),
  undo: (id, seen) => json("POST", `${SESSIONS}/${id}/undo?${at(seen)}`),
  redo: (id, seen) => json("POST", `${SESSIONS}/${id}/redo?${at(seen)}`),
  addObject: (id, object) => json("POST", `${SESSIONS}/${id}/objects`, object),
  changeObject: (id, object, change) => json("PATCH", `${SESSIONS}/${id}/objects/${object}`, change),
  removeObject: (id, object, seen) => json("DELETE", `${SESSIONS}/${id}/objects/${object}?${at(seen)}`),
  overlap: (id, rule, seen) => json("PUT", `${SESSIONS}/${id}/overlap?${at(seen)}`, { rule }),
  through: (id, on, seen) => json("PUT", `${SESSIONS}/${id}/through-slices?${at(seen)}`, { on }),
  labelmap: (id, sequence) => voxels(`${SESSIONS}/${id}/labelmap?grid=series&sequence=${sequence}`),
  uncertainty: (id, object) => voxels(`${SESSIONS}/${id}/uncertainty?grid=series&object=${object}`),
  learning: (bundle) => json("GET", `${LEARNING}/${bundle}`),
  train: (bundle) => json("POST", `${LEARNING}/${bundle}/training`, {}),
  cancelTraining: (bundle) => json("DELETE", `${LEARNING}/${bundle}/training`),
  rollBack: (bundle) => json("POST", `${LEARNING}/${bundle}/rollback`, {}),
  save: (id) => json("POST", `${SESSIONS}/${id}/save`, {}),
};
