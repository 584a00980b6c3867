// What the bundle has learned from the saved labels: train, see how far it is, go back.
import { api } from "./api.js";

const PAUSE_MS = 2000;
const RUNNING = new Set(["starting", "comparing", "training"]);

function sentence(told) {
  const { progress, last, version, corrected } = told;
  const state = progress.state;
  if (state === "training") return `Training: ${Math.round((100 * progress.iteration) / progress.of)} %`;
  if (RUNNING.has(state)) return state === "starting" ? "Training starts …" : "Comparing on cases held back …";
  const saved = `${corrected} saved ${corrected === 1 ? "case" : "cases"}, version ${version}`;
  if (state === "failed") return `${saved}. The training failed: ${progress.error}`;
  if (state === "interrupted") return `${saved}. The training was cancelled.`;
  if (!last) return saved;
  const dice = `Dice ${last.before.score.toFixed(2)} → ${last.after.score.toFixed(2)} on ${last.after.objects} held back`;
  return `${saved}. ${dice}${last.accepted ? "" : ": not better, not used"}.`;
}

/** A row of the panel. @param panel whose bundle is meant @param make makes an element */
export function learning(panel, make) {
  const text = make("span", { dataset: { pz: "learning" } });
  const train = make("button", { textContent: "Train", dataset: { pz: "train" },
    title: "Fine-tune the bundle on the saved labels, in the background; used only if it is better" });
  const back = make("button", { textContent: "Roll back", dataset: { pz: "rollback" },
    title: "Serve the version that was served before" });
  const row = make("div", { className: "pz-row" }, train, back, text);
  let shown = "", running = false, timer = 0;

  function present(told) {
    running = RUNNING.has(told.progress.state);
    train.textContent = running ? "Cancel" : "Train";
    text.textContent = sentence(told);
    back.hidden = running || told.versions.length < 2;
    clearTimeout(timer);
    if (running) timer = setTimeout(() => refresh(), PAUSE_MS);
  }

  async function refresh() {
    try {
      present(await api.learning(shown));
    } catch {
      row.hidden = true; // not trainable
    }
  }

  const act = (job) => async () => {
    try {
      present(await job());
    } catch (error) {
      panel.fail(error);
    }
  };
  train.onclick = act(() => (running ? api.cancelTraining(shown) : api.train(shown)));
  back.onclick = act(() => api.rollBack(shown));
  return { row,
    /** Follow the bundle that answers. */
    show(bundle) {
      if (bundle === shown) return;
      shown = bundle;
      row.hidden = !bundle;
      if (bundle) refresh();
    },
    /** A label was saved. */
    refresh() {
      if (shown) refresh();
    } };
}
