// The promptzoo panel in OHIF: prompts, objects, undo, save and the next case.
import { api } from "./api.js";
import { Session } from "./session.js";
import { Space } from "./space.js";
import { hideStored, segOpened, showStored, storedSegs } from "./stored.js";
import { activate, listen, registerTools } from "./tools.js";
import { build } from "./ui.js";
import { activateUnder, keepMonaiLabelFirst, showAskedSeries, shownSeries, viewerReady } from "./viewer.js";

const KEYS = { p: "point+", n: "point-", b: "box", s: "scribble+", d: "scribble-", l: "lasso+", e: "eraser" };

class Panel {
  constructor(config) {
    this.config = config;
    this.session = null;
    this.tool = "";
    this.object = 1;
    this.live = true;
    this.depth = 0;
    this.message = { text: "", bad: false };
    this.ui = build(this);
  }

  /** Follow the series in the active viewport. */
  async follow() {
    const set = shownSeries();
    if (!set) return;
    if (set.SeriesInstanceUID === this.series) {
      this.showNews();
      return;
    }
    this.series = set.SeriesInstanceUID;
    try {
      if (this.session) api.leave(this.session.series.image).catch(() => null);
      const series = await api.series(this.series);
      const space = new Space(series.shape, series.affine);
      this.session = new Session(set, series, space, this.config.colors, () => this.show(), (error) => this.fail(error));
      this.object = 1;
      api.prepare(series.image, this.session.bundle).catch(() => null); // a prompt works without it, only later
      const earlier = sessionStorage.getItem(this.session.memory);
      if (earlier) await this.session.open(earlier);
      else this.offer = (await api.sessions(series.image)).sessions.find((entry) => entry.sequence > 0);
      this.say("");
      if (!earlier) await this.propose();
    } catch (error) {
      this.session = null;
      this.fail(error);
    }
    this.show();
  }

  /** Choose the tool that the bundle's study advises for this modality, unless a person chose one. */
  async propose() {
    const { session } = this;
    const told = await api.advice(session.series.image, session.bundle, session.set.Modality ?? "").catch(() => null);
    if (!told?.recommended_prompt || this.tool || session.id || session !== this.session) return;
    this.choose(told.recommended_prompt === "box" ? "box" : "point+");
    this.say(`Begin with ${told.reason}.`);
  }

  /** Tell of segmentations that were stored since. */
  showNews() {
    const told = this.session ? JSON.stringify(storedSegs(this.session.set)) : "";
    if (told !== this.stored) this.show();
    this.stored = told;
  }

  showStored(uid, wanted) {
    this.session?.run(async () => (wanted ? showStored(this.session.set, uid) : hideStored(uid)));
  }

  get bundle() {
    const name = this.session?.view?.bundle ?? this.session?.bundle ?? "auto";
    return this.config.bundles.find((bundle) => bundle.name === name) ?? null;
  }

  takes(kind) {
    const bundles = this.bundle ? [this.bundle] : this.config.bundles;
    return bundles.some((bundle) => bundle.prompts.includes(kind));
  }

  classes() {
    return (this.bundle ? [this.bundle] : this.config.bundles).flatMap((bundle) => bundle.classes);
  }

  choose(tool) {
    this.tool = this.tool === tool ? "" : tool;
    activate(this.tool ? this.tool.replace(/[+-]$/, "") : null);
    this.show();
  }

  chooseBundle(name) {
    if (!this.session) return;
    const given = this.session.view?.prompts.map((entry) => entry.prompt) ?? [];
    this.session.close().then(() => {
      this.session.bundle = name;
      api.prepare(this.session.series.image, name).catch(() => null);
      const usable = given.filter((prompt) => this.takes(prompt.kind));
      if (usable.length) this.session.run(() => this.session.say(usable, []));
      else this.propose();
      this.show();
    });
  }

  drawn(annotation) {
    const positive = !this.tool.endsWith("-");
    this.session?.drawn(annotation, { object_id: this.object, positive, depth: this.depth }, this.live);
  }

  speak(text) {
    const { session } = this;
    if (!session) return;
    const known = this.classes().find((name) => name.toLowerCase() === text.toLowerCase());
    if (!this.takes("text")) {
      if (known) session.tell({ kind: "class", name: known, object_id: this.object });
      else this.fail(new Error(this.takes("class") ? `${text} is none of the classes here: ${this.classes().join(", ")}.`
        : "The bundle chosen here takes no words; mark the object instead, or start over."));
      return;
    }
    session.run(async () => {
      const told = await api.words(text, session.series.image, this.bundle?.name ?? session.bundle);
      if (told.question) {
        this.ask(told);
        return;
      }
      const prompts = told.names.map((name, place) => (
        { kind: "text", text: name, object_id: session.objectFor(place ? null : this.object, name) }));
      this.object = prompts[0].object_id;
      this.say(told.note);
      await session.say(prompts, []);
    });
  }

  /** Turn what a bundle proposed for an object into prompts; another bundle goes on if this one takes none of them. */
  adopt(object_id) {
    const { session } = this;
    const prompts = session.adopted(object_id);
    const usable = prompts.filter((prompt) => this.takes(prompt.kind));
    if (usable.length) {
      session.adopt(object_id, usable);
      return;
    }
    session.close().then(() => {
      session.bundle = "auto";
      session.run(() => session.say(prompts, []));
      this.say("Answered by the bundle that fits boxes and points on this image.");
    });
  }

  /** A question back, with what may be meant. */
  ask({ question, candidates }) {
    this.message = { text: question, bad: true, choices: candidates };
    this.show();
  }

  save() {
    this.session?.save((saved) => {
      this.ui.learned();
      if (!saved.place) this.fail(new Error(saved.reason));
      else if (saved.reason) this.say(`Saved ${saved.place}. ${saved.reason}`);
      else this.say(`Saved ${saved.place} and DICOM SEG …${saved.seg_instance.slice(-12)}. Reload the study to open it.`);
    });
  }

  async next(strategy) {
    try {
      const found = await api.next(strategy);
      if (!found.study) {
        this.say(found.image ? `${found.image} has no DICOM series to show. ${found.reason}` : `Nothing left: ${found.reason}.`);
        return;
      }
      const place = new URL(window.location.href);
      place.searchParams.set("StudyInstanceUIDs", found.study);
      place.searchParams.set("initialSeriesInstanceUID", found.series);
      sessionStorage.setItem("promptzoo:reason", `${found.image}: ${found.reason}.`);
      window.location.assign(place);
    } catch (error) {
      this.fail(error);
    }
  }

  say(text) {
    this.message = { text, bad: false };
    this.show();
  }

  fail(error) {
    this.message = { text: error.message, bad: true };
    this.show();
  }

  show() {
    this.ui.show();
  }

  key(event) {
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || !this.session) return;
    const letter = event.key.toLowerCase();
    let job = null;
    if (event.ctrlKey || event.metaKey) {
      if (letter === "z") job = () => (event.shiftKey ? this.session.redo() : this.session.undo());
      if (letter === "y") job = () => this.session.redo();
    } else if (event.altKey) {
      if (KEYS[letter]) job = () => this.choose(KEYS[letter]);
      if (letter === "enter") job = () => this.session.send();
    }
    if (!job) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    job();
  }
}

async function start() {
  await viewerReady();
  const panel = new Panel(await api.config());
  window.promptzoo = panel;
  keepMonaiLabelFirst();
  await showAskedSeries();
  registerTools();
  listen({
    drawn: (annotation) => panel.drawn(annotation),
    moved: (annotation) => panel.session?.moved(annotation),
    removed: (uid) => panel.session?.removed(uid),
  });
  window.addEventListener("pointermove", (event) => {
    if (panel.tool && !event.buttons) activateUnder(event.clientX, event.clientY);
  }, true);
  document.addEventListener("dblclick", (event) => {
    const uid = panel.session && segOpened(event, panel.session.set);
    if (!uid) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    panel.showStored(uid, true);
  }, true);
  window.addEventListener("keydown", (event) => panel.key(event), true);
  await panel.follow();
  const reason = sessionStorage.getItem("promptzoo:reason");
  if (reason) panel.say(reason);
  sessionStorage.removeItem("promptzoo:reason");
  setInterval(() => panel.follow(), 1500);
}

start().catch((error) => console.error("promptzoo panel:", error));
