// The elements of the panel; `show()` brings them up to date with what the panel knows.
import { learning } from "./learn.js";
import { storedSegs } from "./stored.js";

const TOOLS = [
  ["point+", "+ Point", "Alt+P: this belongs to the object"], ["point-", "− Point", "Alt+N: this does not"],
  ["box", "Box", "Alt+B: the object lies inside"], ["scribble+", "+ Scribble", "Alt+S"],
  ["scribble-", "− Scribble", "Alt+D"], ["lasso+", "Lasso", "Alt+L: around a part of the object"],
  ["eraser", "Eraser", "Alt+E: click a prompt to delete it"],
];
const OVERLAP = { last: "last prompted wins", first: "first wins", probability: "likelier wins" };

function element(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, dataset);
  node.append(...children);
  return node;
}

const hex = (color) => `#${color.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
const rgb = (text) => [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16));

function describe(prompt) {
  const sign = prompt.positive === false ? "− " : "+ ";
  if (prompt.kind === "text") return `“${prompt.text}”`;
  if (prompt.kind === "class") return prompt.name;
  return `${prompt.kind === "box" ? "" : sign}${prompt.kind}`;
}

/** Build the panel into the page. @param panel what it shows and steers */
export function build(panel) {
  const act = (job) => () => panel.session && job(panel.session);
  const bundle = element("select", { title: "Bundle", dataset: { pz: "bundle" },
    onchange: () => panel.chooseBundle(bundle.value) });
  bundle.append(element("option", { value: "auto", textContent: "auto: the one that fits" }),
    ...panel.config.bundles.map((entry) => element("option", { value: entry.name, textContent: entry.title })));
  const tools = element("div", { className: "pz-tools" }, ...TOOLS.map(([id, label, title]) =>
    element("button", { textContent: label, title, dataset: { pz: id }, onclick: () => panel.choose(id) })));
  const depth = element("input", { type: "number", min: 0, step: 5, value: 0, dataset: { pz: "depth" },
    title: "How far a box drawn on a slice reaches across slices; 0: this slice only",
    onchange: () => { panel.depth = Math.max(0, Number(depth.value) || 0); } });
  const words = element("input", { type: "text", placeholder: "What to segment, in words", dataset: { pz: "text" } });
  words.setAttribute("list", "pz-classes");
  const list = element("datalist", { id: "pz-classes" });
  words.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && words.value.trim()) {
      panel.speak(words.value.trim());
      words.value = "";
    }
  };
  const live = element("input", { type: "checkbox", checked: true, dataset: { pz: "live" },
    onchange: () => { panel.live = live.checked; panel.show(); } });
  const button = (pz, textContent, title, onclick) => element("button", { textContent, title, onclick, dataset: { pz } });
  const run = button("run", "Run", "Alt+Enter: send what was drawn", act((session) => session.send()));
  const undo = button("undo", "Undo", "Ctrl+Z", act((session) => session.undo()));
  const redo = button("redo", "Redo", "Ctrl+Y", act((session) => session.redo()));
  const objects = element("div", { className: "pz-list", dataset: { pz: "objects" } });
  const add = button("add-object", "New object", "Prompts speak of the chosen object", act((session) => {
    panel.object = session.addObject();
    panel.show();
  }));
  const overlap = element("select", { dataset: { pz: "overlap" }, title: "Who owns a voxel claimed twice",
    onchange: () => panel.session?.overlap(overlap.value) }, ...Object.entries(OVERLAP).map(([value, textContent]) =>
    element("option", { value, textContent })));
  const uncertain = element("input", { type: "checkbox", dataset: { pz: "uncertainty" },
    onchange: act((session) => {
      session.uncertain = uncertain.checked;
      session.current = panel.object;
      session.run(() => session.showUncertain());
    }) });
  const through = element("input", { type: "checkbox", dataset: { pz: "through" },
    onchange: act((session) => session.throughSlices(through.checked)) });
  const prompts = element("div", { className: "pz-list pz-prompts", dataset: { pz: "prompts" } });
  const stored = element("div", { className: "pz-list", dataset: { pz: "stored" } });
  const save = button("save", "Save", "Label and DICOM SEG, with the prompts as provenance", () => panel.save());
  const fresh = button("new", "Start over", "The present session stays on the server",
    act((session) => session.startOver()));
  const strategy = element("select", { dataset: { pz: "strategy" }, title: "How the next case is chosen" },
    ...Object.entries(panel.config.strategies).map(([value, title]) =>
      element("option", { value, title, textContent: value })));
  const next = button("next", "Next case", "", () => panel.next(strategy.value));
  const resume = button("resume", "", "", act((session) => {
    session.open(panel.offer.id);
    panel.offer = null;
  }));
  const learned = learning(panel, element);
  const message = element("div", { className: "pz-message", dataset: { pz: "message" } });
  message.setAttribute("role", "status");
  const body = element("div", { className: "pz-body" },
    bundle, resume, tools,
    element("label", {}, "Box depth ", depth, " mm"), words, list,
    element("div", { className: "pz-row" }, element("label", {}, live, " live"), run, undo, redo),
    element("div", { className: "pz-row" }, element("b", { textContent: "Objects" }), add, overlap), objects,
    element("label", { title: "A 2D bundle carries the prompts from slice to slice through the volume" }, through,
      " Through slices"),
    element("label", {}, uncertain, " show uncertainty"),
    element("b", { textContent: "Prompts" }), prompts,
    element("div", { className: "pz-row" }, save, fresh), stored, element("div", { className: "pz-row" }, next, strategy),
    learned.row, message, element("small", { textContent: `promptzoo ${panel.config.version}. Not a medical device.` }));
  const fold = element("button", { className: "pz-fold", textContent: "promptzoo", dataset: { pz: "fold" },
    title: "Show or hide the panel" });
  const root = element("aside", { id: "promptzoo" }, fold, body);
  fold.onclick = () => {
    document.documentElement.classList.toggle("pz-open");
    window.dispatchEvent(new Event("resize"));
  };
  document.body.append(root);
  document.documentElement.classList.add("pz-open");
  if (window.innerWidth < 1700) {
    for (const side of ["left", "right"]) { // room for the images; one click brings OHIF's own panels back
      document.querySelector(`[data-cy="side-panel-header-${side}"]`)?.click();
    }
  }
  window.dispatchEvent(new Event("resize"));

  function objectRow(session, object) {
    const told = session.answer?.objects.find((entry) => entry.object_id === object.object_id);
    const dice = told?.estimated_dice;
    const color = element("input", { type: "color", value: hex(session.color(object.object_id)), title: "Colour" });
    color.onchange = () => session.changeObject(object.object_id, { color: rgb(color.value) });
    const name = element("input", { type: "text", value: object.name, placeholder: `object ${object.object_id}` });
    name.onkeydown = (event) => event.stopPropagation();
    name.onchange = () => session.changeObject(object.object_id, { name: name.value });
    const row = element("div", { className: "pz-object", dataset: { object: object.object_id } }, color, name,
      element("span", { title: "Estimated Dice", textContent: dice == null || !told.voxels ? "" : `≈ ${dice.toFixed(2)}` }),
      ...(told?.generated ? [element("button", { textContent: "✎", dataset: { pz: "adopt" },
        title: "Edit the boxes and points that were proposed", onclick: (event) => {
          event.stopPropagation();
          panel.adopt(object.object_id);
        } })] : []),
      element("button", { textContent: "×", title: "Remove object", onclick: (event) => {
        event.stopPropagation();
        session.removeObject(object.object_id);
      } }));
    row.classList.toggle("pz-chosen", object.object_id === panel.object);
    row.onclick = () => {
      if (panel.object === object.object_id) return;
      panel.object = object.object_id;
      panel.show();
    };
    return row;
  }

  function show() {
    const { session } = panel;
    learned.show(session?.view?.bundle ?? (session && session.bundle !== "auto" ? session.bundle : ""));
    body.classList.toggle("pz-off", !session);
    body.classList.toggle("pz-busy", Boolean(session?.busy));
    for (const node of tools.children) {
      const id = node.dataset.pz;
      node.classList.toggle("pz-chosen", id === panel.tool);
      node.disabled = id !== "eraser" && !panel.takes(id.replace(/[+-]$/, ""));
    }
    words.disabled = !panel.takes("text") && !panel.takes("class");
    words.placeholder = words.disabled ? (panel.bundle ? "This bundle takes no words" : "No bundle here takes words") : "What to segment, in words";
    list.replaceChildren(...panel.classes().map((value) => element("option", { value })));
    resume.hidden = !panel.offer || Boolean(session?.id);
    if (panel.offer) resume.textContent = `Continue the session of ${panel.offer.updated.slice(0, 16).replace("T", " ")}`;
    message.replaceChildren(panel.message.text, ...(panel.message.choices ?? []).map((text) => element("button", {
      textContent: text, dataset: { pz: "choice" }, onclick: () => panel.speak(text) })));
    message.classList.toggle("pz-bad", panel.message.bad);
    if (!session) return;
    if (!session.objects.some((object) => object.object_id === panel.object)) panel.object = session.objects[0].object_id;
    bundle.value = session.bundle;
    undo.disabled = !session.view?.undo_depth && !session.pending.length;
    redo.disabled = !session.view?.redo_depth;
    run.disabled = !session.pending.length;
    save.disabled = !session.id;
    overlap.value = session.view?.overlap ?? "last";
    through.disabled = panel.bundle?.dimensions !== 2;
    through.checked = session.through && !through.disabled;
    if (!objects.contains(document.activeElement)) {
      objects.replaceChildren(...session.objects.map((object) => objectRow(session, object)));
    }
    stored.replaceChildren(...storedSegs(session.set).map(({ uid, title, shown }) => element("label", {},
      element("input", { type: "checkbox", checked: shown, dataset: { seg: uid },
        onchange: (event) => panel.showStored(uid, event.target.checked) }), ` SEG ${title}`)));
    const waiting = session.pending.map((uid) => session.drawings.get(uid)?.prompt).filter(Boolean);
    prompts.replaceChildren(
      ...(session.view?.prompts ?? []).map(({ number, prompt }) => element("div", { dataset: { number } },
        element("i", { style: `background:${hex(session.color(prompt.object_id ?? 1))}` }), describe(prompt),
        element("button", { textContent: "×", title: "Delete this prompt", onclick: () => session.remove(number) }))),
      ...waiting.map((prompt) => element("div", { className: "pz-waiting" }, describe(prompt), " (waits for Run)")));
    const answer = session.answer;
    if (!panel.message.text && answer) {
      const carried = answer.objects.find((entry) => entry.object_id === panel.object)?.through_slices;
      const slices = carried ? `, ${Object.keys(carried.estimated_dice).length} slices from ${carried.anchors.length}` : "";
      message.textContent = answer.reason || `${answer.seconds.total.toFixed(2)} s, ${answer.engine}${slices}`;
    }
  }

  return { show, learned: () => learned.refresh() };
}
