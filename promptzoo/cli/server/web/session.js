// A session of the server and what the viewer shows of it. Operations run one after the other, in the order given.
import { api } from "./api.js";
import { annotationOf, paintAnnotation, promptOf, putBack, shapeOf, takeAway } from "./tools.js";
import { render, showLabels, showUncertainty } from "./viewer.js";

export class Session {
  /**
   * @param set display set of the series  @param series answer of /promptzoo/viewer/series  @param space its voxel grid
   * @param colors of objects 1, 2, …  @param changed called when something is to be shown  @param failed called with an Error
   */
  constructor(set, series, space, colors, changed, failed) {
    Object.assign(this, { set, series, space, colors, changed, failed });
    this.bundle = "auto";
    this.id = null;
    this.view = null; // the session as the server tells it
    this.answer = null; // the last answer
    this.objects = [{ object_id: 1, name: "", color: null }];
    this.drawings = new Map(); // annotation uid -> {annotation, number, shape, prompt}
    this.stash = new Map(); // number -> annotation that was taken away by undo
    this.pending = []; // uids drawn but not sent
    this.quiet = false; // true while we change annotations ourselves
    this.uncertain = false;
    this.through = false; // whether 2D bundles carry prompts through the volume
    this.busy = 0;
    this.queue = Promise.resolve();
  }

  get frameOfReference() {
    return this.set.FrameOfReferenceUID ?? this.set.instances?.[0]?.FrameOfReferenceUID;
  }

  /** Run an operation after those before it; errors are shown, and the session is read again. */
  run(operation) {
    this.busy += 1;
    this.changed();
    this.queue = this.queue.then(operation).catch(async (error) => {
      this.failed(error);
      if (this.id) await this.reload().catch(() => {});
    }).finally(() => {
      this.busy -= 1;
      this.changed();
    });
    return this.queue;
  }

  /** Begin the session on the server, with a bundle that takes the prompts to come. */
  async ensure(prompts) {
    if (this.id) return;
    const made = await api.create(this.series.image, this.bundle, [...new Set(prompts.map((prompt) => prompt.kind))],
      prompts.filter((prompt) => prompt.kind === "text").map((prompt) => prompt.text));
    this.id = made.id;
    this.view = made;
    this.remember();
  }

  get memory() {
    return `promptzoo:${this.series.series}`;
  }

  remember() {
    sessionStorage.setItem(this.memory, this.id ?? "");
  }

  /** Go on with a session of the server. */
  open(id) {
    return this.run(async () => {
      this.id = id;
      this.remember();
      await this.reload();
      this.bundle = this.view.bundle;
    });
  }

  /** Begin anew; the earlier session stays on the server. */
  close() {
    return this.run(async () => {
      this.silently(() => this.drawings.forEach(({ annotation }) => takeAway(annotation)));
      this.drawings.clear();
      this.stash.clear();
      this.pending = [];
      [this.id, this.view, this.answer] = [null, null, null];
      this.remember();
      const [columns, rows, slices] = this.space.shape;
      await this.show({ data: new Uint8Array(columns * rows * slices), shape: this.space.shape });
    });
  }

  /** Begin anew with one object that nothing was said of. */
  startOver() {
    this.close();
    return this.run(() => { this.objects = [{ object_id: 1, name: "", color: null }]; });
  }

  async reload() {
    this.view = await api.state(this.id);
    this.sync();
    const labels = await api.labelmap(this.id, this.view.sequence);
    await this.show(labels);
  }

  color(id) {
    const known = (this.answer?.objects ?? []).find((object) => object.object_id === id);
    return this.objects.find((object) => object.object_id === id)?.color ?? known?.color
      ?? this.colors[(id - 1) % this.colors.length];
  }

  async show(labels) {
    const told = this.answer?.objects?.length ? this.answer.objects : this.objects;
    await showLabels(this.set, labels, told.map((object) => ({ ...object, color: this.color(object.object_id) })));
    await this.showUncertain();
    render();
  }

  async showUncertain() {
    const object = this.answer?.objects?.find((entry) => entry.voxels)?.object_id;
    const wanted = this.uncertain && this.id && object !== undefined;
    await showUncertainty(this.set, wanted ? await api.uncertainty(this.id, this.current ?? object) : null);
  }

  async answered(answer) {
    this.answer = answer;
    this.view = await api.state(this.id);
    this.sync();
    await this.show(await api.labelmap(this.id, answer.sequence));
  }

  silently(job) {
    this.quiet = true;
    try {
      job();
    } finally {
      this.quiet = false;
    }
  }

  /** Make the annotations those of the prompts in force. */
  sync() {
    this.through = this.view.prompts.length ? this.view.through_slices : this.through;
    for (const object of this.view.objects) {
      const known = this.objects.find((entry) => entry.object_id === object.object_id);
      if (!known) this.objects.push({ ...object });
      else Object.assign(known, { name: object.name || known.name, color: object.color ?? known.color });
    }
    const inForce = new Map(this.view.prompts.map((entry) => [entry.number, entry.prompt]));
    this.silently(() => {
      for (const [uid, drawing] of this.drawings) {
        if (drawing.number !== null && !inForce.has(drawing.number)) {
          takeAway(drawing.annotation);
          this.stash.set(drawing.number, drawing);
          this.drawings.delete(uid);
        }
      }
      const shown = new Set([...this.drawings.values()].map((drawing) => drawing.number));
      for (const [number, prompt] of inForce) {
        if (shown.has(number)) continue;
        const annotation = this.stash.get(number)?.annotation ?? annotationOf(prompt, this.space, this.frameOfReference);
        if (!annotation) continue;
        putBack(annotation, this.frameOfReference);
        paintAnnotation(annotation, prompt, this.color(prompt.object_id));
        this.drawings.set(annotation.annotationUID, { annotation, number, prompt, shape: shapeOf(annotation) });
        this.stash.delete(number);
      }
    });
  }

  /** A person drew a prompt: send it, or keep it for Run. */
  drawn(annotation, choice, live) {
    if (this.quiet || this.drawings.has(annotation.annotationUID)) return;
    try {
      const prompt = promptOf(annotation, this.space, choice);
      paintAnnotation(annotation, prompt, this.color(prompt.object_id));
      this.drawings.set(annotation.annotationUID, { annotation, number: null, prompt, shape: shapeOf(annotation), choice });
      this.pending.push(annotation.annotationUID);
    } catch (error) {
      this.silently(() => takeAway(annotation));
      render();
      this.failed(error);
      return;
    }
    if (live) this.send();
    else this.changed();
  }

  /** Send what was drawn but not sent, as one operation. */
  send() {
    return this.run(async () => {
      const sent = this.pending.splice(0).filter((uid) => this.drawings.has(uid));
      if (!sent.length) return;
      await this.say(sent.map((uid) => this.drawings.get(uid).prompt), sent);
    });
  }

  /** Prompts without a place: text and classes. */
  tell(...prompts) {
    return this.run(() => this.say(prompts, []));
  }

  /** The prompts that the bundle made for an object, each thing that it found an object of its own; words go. */
  adopted(object_id) {
    const told = this.answer?.objects?.find((entry) => entry.object_id === object_id);
    const name = this.objects.find((entry) => entry.object_id === object_id)?.name ?? "";
    const found = [...new Set((told?.generated?.prompts ?? []).map((prompt) => prompt.object_id ?? 1))];
    const ids = new Map(found.map((id, place) => [id, place ? this.addObject() : object_id]));
    found.forEach((id, place) => {
      if (place && name) this.objects.find((entry) => entry.object_id === ids.get(id)).name = `${name} ${place + 1}`;
    });
    return (told?.generated?.prompts ?? []).map((prompt) => ({ ...prompt, object_id: ids.get(prompt.object_id ?? 1) }));
  }

  /** Replace the words of an object by prompts that can be edited. */
  adopt(object_id, prompts) {
    return this.run(async () => {
      for (const { number, prompt } of this.view.prompts) {
        if ((prompt.object_id ?? 1) !== object_id || !["text", "class"].includes(prompt.kind)) continue;
        const gone = await api.remove(this.id, number, this.view.sequence);
        this.view = { ...this.view, sequence: gone.sequence };
      }
      await this.say(prompts, []);
    });
  }

  /** The object that a named thing goes to: `preferred` if nothing was said of it, else a new one. */
  objectFor(preferred, name) {
    const spoken = [...(this.view?.prompts ?? []).map((entry) => entry.prompt.object_id ?? 1),
      ...this.pending.map((uid) => this.drawings.get(uid)?.prompt.object_id)];
    const id = preferred !== null && !spoken.includes(preferred) ? preferred : this.addObject();
    const object = this.objects.find((entry) => entry.object_id === id);
    object.name ||= name;
    return id;
  }

  async say(prompts, uids) {
    try {
      await this.ensure(prompts);
      const named = this.objects.filter((object) => prompts.some((prompt) => prompt.object_id === object.object_id));
      const answer = await api.add(this.id, prompts, named, this.through, this.view.sequence);
      const before = new Set(this.view.prompts.map((entry) => entry.number));
      const fresh = answer.numbers.filter((number) => !before.has(number));
      uids.forEach((uid, place) => { this.drawings.get(uid).number = fresh[place]; });
      await this.answered(answer);
    } catch (error) {
      this.silently(() => uids.forEach((uid) => {
        if (this.drawings.get(uid)?.number !== null) return;
        takeAway(this.drawings.get(uid).annotation);
        this.drawings.delete(uid);
      }));
      render();
      throw error;
    }
  }

  /** A person moved a prompt: the old one is deleted, the new one sent. */
  moved(annotation) {
    const drawing = this.drawings.get(annotation.annotationUID);
    if (!drawing || this.quiet || drawing.shape === shapeOf(annotation)) return;
    const { object_id, positive = true } = drawing.prompt;
    const choice = { depth: 0, ...drawing.choice, object_id, positive };
    const prompt = promptOf(annotation, this.space, choice);
    drawing.shape = shapeOf(annotation);
    drawing.prompt = prompt;
    if (drawing.number === null) return;
    this.run(async () => {
      const gone = await api.remove(this.id, drawing.number, this.view.sequence);
      drawing.number = null;
      this.view = { ...this.view, sequence: gone.sequence, prompts: this.view.prompts };
      await this.say([prompt], [annotation.annotationUID]);
    });
  }

  /** A person deleted a prompt in the viewer. */
  removed(uid) {
    const drawing = this.drawings.get(uid);
    if (!drawing || this.quiet) return;
    this.drawings.delete(uid);
    this.pending = this.pending.filter((entry) => entry !== uid);
    if (drawing.number !== null) this.remove(drawing.number);
    else this.changed();
  }

  remove(number) {
    return this.run(async () => this.answered(await api.remove(this.id, number, this.view.sequence)));
  }

  undo() {
    if (this.pending.length) {
      const uid = this.pending.pop();
      this.silently(() => takeAway(this.drawings.get(uid).annotation));
      this.drawings.delete(uid);
      render();
      this.changed();
      return this.queue;
    }
    return this.run(async () => {
      if (this.view?.undo_depth) await this.answered(await api.undo(this.id, this.view.sequence));
    });
  }

  redo() {
    return this.run(async () => {
      if (this.view?.redo_depth) await this.answered(await api.redo(this.id, this.view.sequence));
    });
  }

  /** A new object; its id. */
  addObject() {
    const object_id = Math.max(0, ...this.objects.map((object) => object.object_id)) + 1;
    this.objects.push({ object_id, name: "", color: null });
    this.changed();
    return object_id;
  }

  /** Another name or colour: {name} or {color}. */
  changeObject(object_id, change) {
    Object.assign(this.objects.find((object) => object.object_id === object_id), change);
    if (!this.view?.objects.some((object) => object.object_id === object_id)) return this.changed();
    return this.run(async () => {
      this.view = await api.changeObject(this.id, object_id, change);
      await this.reload();
    });
  }

  removeObject(object_id) {
    this.objects = this.objects.filter((object) => object.object_id !== object_id);
    if (!this.objects.length) this.objects = [{ object_id: 1, name: "", color: null }];
    if (!this.view?.objects.some((object) => object.object_id === object_id)) return this.changed();
    return this.run(async () => this.answered(await api.removeObject(this.id, object_id, this.view.sequence)));
  }

  overlap(rule) {
    return this.run(async () => {
      await this.ensure([]);
      await this.answered(await api.overlap(this.id, rule, this.view.sequence));
    });
  }

  /** Whether 2D bundles carry prompts through the volume; what is prompted already is answered anew. */
  throughSlices(on) {
    this.through = on;
    if (!this.view?.prompts.length) return this.changed();
    return this.run(async () => this.answered(await api.through(this.id, on, this.view.sequence)));
  }

  save(told) {
    return this.run(async () => {
      if (!this.id) throw new Error("Nothing to save: no prompt was given yet.");
      const saved = await api.save(this.id);
      this.view = await api.state(this.id);
      told(saved);
    });
  }
}
