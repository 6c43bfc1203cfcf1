// The page: what is shown, and what hands and keys do with it.

import { addPicture, ask, askAbout, keyOf, online, pageFile, slotsFile, takeInHand } from "./source.js";
import { brief, edited, readAddress, sceneText, writeAddress } from "./address.js";
import { showPictureInWords, startWords } from "./words.js";
import { buildUp, compose, draw, NOBODY, readLayers, readPicture, under } from "./picture.js";

const $ = (id) => document.getElementById(id);
let models = [], inHandNow = 0;  // all that are shown, and which of them is taken hold of
let about = null;       // of that one
let acts = [];          // actions chosen so far
let view = null;        // what the server said of the scene
let base = null;        // its layers, as arrays
let image = null;       // the pixels that the model saw
let objects = [];       // the slots shown, then copies and objects of other scenes, each with its edits
let now = null;         // {recon, owners}: the picture as it is, owners being numbers in `objects`
let how = "";           // how the last picture was made
let chosen = null, lit = null;
let past = [];          // earlier states of `objects`, for undo
let film = null, playing = null;
let drawing = false, waiting = false, drag = null, loads = 0;
const views = new Map();  // of this scene's frames and of other scenes: {view, base, image}

function say(text, wrong = false) {
  $("say").textContent = text;
  $("say").classList.toggle("wrong", wrong);
}

const guarded = (action) => async (...values) => {
  try { await action(...values); } catch (error) { say(error.message, true); }
};

// Scenes

async function fetchView(ref, frame = 0, model = inHandNow) {
  const key = `${model}:${keyOf(ref)}@${frame}`;
  if (!views.has(key)) {
    if (views.size > 60) views.clear();
    const found = await ask("view", { ref, frame, model });
    views.set(key, { view: found, base: await readLayers(found), image: await readPicture(found.image) });
  }
  return views.get(key);
}

const fresh = (slot) => ({ slot, dx: 0, dy: 0, gone: false, set: {} });

async function open(ref, frame = 0, edits = []) {
  const number = ++loads;
  const same = view && keyOf(ref) === keyOf(view.ref);
  const found = await fetchView(ref, frame);
  if (number !== loads) return;  // another scene was asked for meanwhile
  ({ view, base, image } = found);
  film = null;
  acts = [];
  if (!same) { chosen = null; $("futures").hidden = true; stop(); }
  past = [];
  objects = view.slots.map(fresh);
  for (const edit of edits) {
    const further = edit.copy || edit.from;
    const thing = further ? fresh(edit.slot) : objects.find((other) => other.slot === edit.slot);
    if (!thing) continue;
    Object.assign(thing, edit, { set: edit.set ?? {} });
    if (thing.from) await fetchView(thing.from);
    if (further) objects.push(thing);
  }
  lit = null;
  if (chosen !== null && chosen >= objects.length) chosen = null;
  showScene();
  await redraw();
  await showSliders();
}

function showScene() {
  const { ref } = view;
  if ("split" in ref) { $("split").value = ref.split; $("index").value = ref.index; $("index").max = about.splits[ref.split] - 1; }
  $("true").hidden = !view.truth;
  if (view.truth) readPicture(view.truth).then((pixels) => draw($("truth"), pixels, base.height, base.width));
  guarded(showBeside)();
  const title = "sample" in ref ? `Imagined scene ${ref.index + 1}` : "picture" in ref ? "Your picture" : `Scene ${ref.index}`;
  say(view.note ? `${title}: ${view.note}.` : `${title}.`);
  $("predict").hidden = !(about.predicts && view.frames && online);
  showActions();
  showTime();
}

// The other models, each on the same scene, and the scores of all.
const besides = [];  // {canvas, found} of the others

async function showBeside() {
  const { ref, frame } = view;
  const own = { name: about.name, scores: view.scores };
  const others = "sample" in ref ? [] : models.map((_, number) => number).filter((number) => number !== inHandNow);
  const found = await Promise.all(others.map((number) => fetchView(ref, frame, number)));
  if (keyOf(ref) !== keyOf(view.ref) || frame !== view.frame) return;
  for (const old of document.querySelectorAll("figure.beside")) old.remove();
  besides.length = 0;
  others.forEach((number, i) => {
    const figure = element("figure", "", { className: "beside" });
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `What ${models[number].name} draws`);
    const caption = element("figcaption", `What ${models[number].name} draws`);
    caption.append(element("button", "Take hold", { type: "button", title: "Key M", onclick: () => takeHold(number) }));
    figure.append(canvas, caption);
    $("true").before(figure);
    const paintIt = (which) => draw(canvas, found[i].base.recon, found[i].base.height, found[i].base.width,
      { owners: found[i].base.owners, lit: which, colors: found[i].view.colors });
    canvas.onpointermove = (event) => {
      const [x, y] = under(canvas, event, found[i].base.height, found[i].base.width);
      const owner = found[i].base.owners[y * found[i].base.width + x];
      paintIt(owner === undefined || owner === NOBODY ? null : owner);
    };
    canvas.onpointerleave = () => paintIt(null);
    paintIt(null);
    besides.push({ name: models[number].name, scores: found[i].view.scores });
  });
  showScores([own, ...besides]);
  $("drawn").textContent = drawnCaption();
}

const drawnCaption = () => (models.length > 1 ? `What ${about.name} draws` : "What the model draws");

function showScores(columns) {
  const names = [...new Set(columns.flatMap((column) => Object.keys(column.scores)))];
  $("numbers").hidden = !names.length;
  const head = element("tr", "");
  head.append(element("th", "score"), ...columns.map((column) => element("th", column.name, { scope: "col" })));
  const top = document.createElement("thead"), body = document.createElement("tbody");
  top.append(head);
  body.append(...names.map((name) => {
    const row = element("tr", "");
    row.append(element("th", name, { scope: "row" }), ...columns.map((column) => element("td", String(column.scores[name] ?? "–"))));
    return row;
  }));
  $("scores").replaceChildren(...(columns.length > 1 ? [top] : []), body);
}

const takeHold = guarded(async (number) => {
  if (number === inHandNow || !models[number]) return;
  const { ref, frame } = view;
  inHandNow = number;
  about = models[number];
  takeInHand(number);
  showAbilities();
  view = null;
  await open("sample" in ref && !about.samples ? { split: Object.keys(about.splits)[0], index: 0 } : ref, frame);
});

function element(tag, text, properties = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  return Object.assign(made, properties);
}

// Edits. By the latent where the model can; else the page cuts the object out and pastes it.

const can = (edit) => about.latent.includes(edit);
const viewOf = (thing) => (thing.from ? views.get(`${inHandNow}:${keyOf(thing.from)}@0`) : { view, base });
function movable(thing) {
  const { view: from } = viewOf(thing);
  return can("move") && from.movable[from.slots.indexOf(thing.slot)];
}
const byLatent = (thing) => !(thing.from && !can("exchange")) && !(thing.copy && !movable(thing));
const moved = (thing) => thing.dx || thing.dy;

function request() {
  const sent = [];
  objects.forEach((thing, i) => {
    if (!byLatent(thing)) return;
    const told = brief(thing);
    if (!movable(thing)) { delete told.dx; delete told.dy; }
    if (!can("remove")) delete told.gone;
    sent.push({ told, i });
  });
  return sent;
}

// The parts as they stand before the page's own cutting and pasting, one per object.
function ownParts() {
  return objects.map((thing) => {
    const { view: from, base: layers } = viewOf(thing);
    return layers.parts[from.slots.indexOf(thing.slot)];
  });
}

async function redraw() {
  if (drawing) { waiting = true; return; }
  drawing = true;
  try {
    do {
      waiting = false;
      await redrawOnce();
    } while (waiting);
  } finally { drawing = false; }
}

async function redrawOnce() {
  const state = objects, scene = view;
  const sent = request();
  const latent = sent.some(({ told }) => edited(told));
  let parts = ownParts(), whole = base;
  const owns = (i) => i;
  let toObject = owns;
  if (latent) {
    let answer;
    try {
      answer = await ask("edit", { ref: view.ref, frame: view.frame, objects: sent.map(({ told }) => told) });
    } catch (error) {
      if (error.status === 409) return;
      throw error;
    }
    whole = await readLayers(answer);
    if (state !== objects || scene !== view) return;
    parts = [...parts];
    sent.forEach(({ i }, k) => { parts[i] = whole.parts[k]; });
    toObject = (k) => sent[k]?.i ?? NOBODY;
  }
  const cut = objects.some((thing) =>
    !byLatent(thing) || (moved(thing) && !movable(thing)) || (thing.gone && !can("remove")));
  if (cut) {
    now = compose(objects.map((thing, i) => ({
      ...parts[i], gone: thing.gone, dx: movable(thing) && byLatent(thing) ? 0 : Math.round(thing.dx),
      dy: movable(thing) && byLatent(thing) ? 0 : Math.round(thing.dy),
      over: !byLatent(thing) || Boolean(moved(thing) && !movable(thing)),
    })), base.height, base.width);
  } else {
    now = { recon: whole.recon, owners: whole.owners.map((k) => (k === NOBODY ? k : toObject(k))) };
  }
  now.parts = parts;
  how = latent && cut ? "Drawn from edited latents; what has no place in its latent was cut out of the picture and pasted."
    : latent ? "Drawn by the model from edited latents."
    : cut ? "Cut out of the picture and pasted: no latent was changed."
    : movablesText();
  remember();
  paint();
  showTiles();
}

const remember = () => writeAddress(view.ref, view.frame, objects.filter(edited).map(brief), inHandNow, acts);

function movablesText() {
  if (!online) return "Drag an object. In this file it is cut out of the picture; the server edits latents.";
  if (can("move")) return "Drag an object: its latent holds its place, so that the model draws it elsewhere.";
  return "Drag an object: this model's latents have no place, so it is cut out of the picture and pasted.";
}

function change(action, remember = true) {
  if (film) closeFilm();
  if (remember) past.push(JSON.stringify(objects));
  objects = objects.map((thing) => ({ ...thing, set: { ...thing.set } }));
  action(objects);
  return guarded(redraw)();
}

function needChosen() {
  if (chosen === null || !objects[chosen]) { say("Choose an object first: click on it, or press its number."); return false; }
  return true;
}

const move = (dx, dy, remember = true) => change((all) => { all[chosen].dx += dx; all[chosen].dy += dy; }, remember);

function remove() {
  if (!needChosen()) return;
  if (!objects[chosen].gone && objects.filter((thing) => !thing.gone).length < 2) { say("At least one slot must stay.", true); return; }
  change((all) => { all[chosen].gone = !all[chosen].gone; });
}

function duplicate() {
  if (!needChosen()) return;
  const original = objects[chosen];
  change((all) => {
    all.push({ ...original, copy: true, gone: false, dx: original.dx + Math.round(base.width / 8), set: { ...original.set } });
    chosen = all.length - 1;
  });
  guarded(showSliders)();
}

function undo() {
  if (!past.length) { say("There is nothing to undo."); return; }
  objects = JSON.parse(past.pop());
  if (chosen !== null && chosen >= objects.length) chosen = null;
  guarded(redraw)();
  guarded(showSliders)();
}

const reset = () => { if (objects.some(edited)) change((all) => { all.splice(0, all.length, ...view.slots.map(fresh)); chosen = null; }); };

// Another scene's object

const dialog = $("other");
let otherRef = null;

const showOther = guarded(async () => {
  const split = view.ref.split ?? Object.keys(about.splits)[0];
  const index = Math.min(Math.max(0, Number($("other-index").value) || 0), about.splits[split] - 1);
  otherRef = { split, index };
  const found = await fetchView(otherRef);
  const paintOther = (which = null) => draw($("other-image"), found.base.recon, found.base.height, found.base.width,
    { owners: found.base.owners, lit: which, colors: found.view.colors });
  paintOther();
  const take = (position) => {
    dialog.close();
    const exchange = $("other-exchange").checked && chosen !== null;
    change((all) => {
      if (exchange) all[chosen].gone = true;
      all.push({ ...fresh(found.view.slots[position]), from: otherRef });
      chosen = all.length - 1;
    });
  };
  const at = (event) => {
    const [x, y] = under($("other-image"), event, found.base.height, found.base.width);
    const owner = found.base.owners[y * found.base.width + x];
    return owner === undefined || owner === NOBODY ? null : owner;
  };
  $("other-image").onpointermove = (event) => paintOther(at(event));
  $("other-image").onclick = (event) => { if (at(event) !== null) take(at(event)); };
  $("other-tiles").replaceChildren(...found.view.slots.map((slot, i) => {
    const made = tile(found.base.parts[i], found.base, `Slot ${slot}`, `${percent(found.view.share[i])} of the pixels`, found.view.colors[i]);
    made.onclick = () => take(i);
    made.onfocus = () => paintOther(i);
    return made;
  }));
});

function openOther() {
  const index = "index" in view.ref && "split" in view.ref ? view.ref.index : 0;
  $("other-index").value = index + 1;
  $("other-exchange").checked = chosen !== null;
  $("other-exchange").disabled = chosen === null;
  dialog.showModal();
  showOther();
}

// Tiles and sliders

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function tile(part, layers, title, text, color) {
  const made = element("button", "", { type: "button", className: "tile" });
  made.style.setProperty("--own", color);
  const pair = element("div", "", { className: "pair" });
  const cutOut = new Uint8ClampedArray(part.picture.length);
  for (let p = 0; p < part.mask.length; p += 1) {
    for (let c = 0; c < 3; c += 1) cutOut[4 * p + c] = (part.picture[4 * p + c] * part.mask[p]) / 255;
    cutOut[4 * p + 3] = 255;
  }
  const opaque = new Uint8ClampedArray(part.picture);
  for (const pixels of [cutOut, opaque]) {
    const canvas = document.createElement("canvas");
    canvas.width = layers.width;
    canvas.height = layers.height;
    canvas.getContext("2d").putImageData(new ImageData(pixels, layers.width, layers.height), 0, 0);
    pair.append(canvas);
  }
  made.append(pair, element("span", title), element("span", text));
  return made;
}

function showTiles() {
  const focused = document.activeElement?.closest?.("#tiles .tile")?.dataset.number;
  $("tiles").replaceChildren(...objects.map((thing, i) => {
    const { view: from } = viewOf(thing);
    const at = from.slots.indexOf(thing.slot);
    const count = now.owners.reduce((sum, owner) => sum + (owner === i), 0);
    const title = thing.from ? `From ${sceneText(thing.from)}` : thing.copy ? `Copy of slot ${thing.slot}` : `Slot ${thing.slot}`;
    const facts = [`${percent(count / now.owners.length)} of the pixels`];
    const sure = from.sure?.[at];
    if (typeof sure === "number") facts.push(`sure of them ${percent(sure)}`);
    if (from.present) facts.push(`present ${from.present[at]}`);
    if (thing.gone) facts.push("removed");
    if (moved(thing)) facts.push(`moved ${Math.round(thing.dx)}, ${Math.round(thing.dy)}`);
    const made = tile(now.parts[i], base, title, facts.join("; "), from.colors[at]);
    made.dataset.number = i;
    made.setAttribute("aria-pressed", String(i === chosen));
    made.classList.toggle("gone", thing.gone);
    made.onclick = () => choose(i === chosen ? null : i);
    made.onfocus = made.onpointerenter = () => light(i);
    made.onblur = made.onpointerleave = () => light(null);
    return made;
  }));
  if (focused !== undefined) $("tiles").children[focused]?.focus();
  for (const name of ["remove", "copy"]) $(name).disabled = chosen === null;
  $("remove").textContent = chosen !== null && objects[chosen]?.gone ? "Bring back" : "Remove";
  $("undo").disabled = !past.length;
  $("reset").disabled = !objects.some(edited);
  $("how").textContent = how;
}

function choose(number) {
  chosen = number;
  paint();
  showTiles();
  guarded(showSliders)();
}

let sliderLoads = 0;
async function showSliders() {
  const number = ++sliderLoads;
  const thing = chosen === null ? null : objects[chosen];
  if (!thing || !online || !can("set") || !byLatent(thing) || film) { $("sliders").replaceChildren(); return; }
  const ref = thing.from ?? view.ref;
  const rows = await ask("sliders", { ref, slot: thing.slot, frame: thing.from ? 0 : view.frame });
  if (number !== sliderLoads) return;
  $("sliders").replaceChildren(...rows.map((row) => {
    const label = element("label", row.name, { title: `dimension ${row.dimension}, activeness ${row.active}` });
    const span = row.high - row.low;
    const value = thing.set[row.dimension] ?? row.value;
    const slider = Object.assign(document.createElement("input"), {
      type: "range", min: Math.min(row.low, row.value), max: Math.max(row.high, row.value), step: span / 100, value });
    const shown = element("output", Number(value).toFixed(2));
    let began = false;
    slider.oninput = () => {
      shown.textContent = Number(slider.value).toFixed(2);
      change((all) => { all[chosen].set[row.dimension] = Number(slider.value); }, !began);
      began = true;
    };
    slider.onchange = () => { began = false; };
    label.append(slider, shown);
    return label;
  }));
}

// Painting; objects light up without asking the server

function paint() {
  if (film) {
    const frame = film.frames[film.at];
    draw($("image"), image, base.height, base.width);
    draw($("drawing"), frame.recon, base.height, base.width, { owners: frame.owners, lit, colors: view.colors });
    return;
  }
  const colors = objects.map((thing) => { const { view: from } = viewOf(thing); return from.colors[from.slots.indexOf(thing.slot)]; });
  draw($("image"), image, base.height, base.width, { owners: base.owners, lit: lit !== null && lit < view.slots.length ? lit : null, colors });
  draw($("drawing"), now.recon, base.height, base.width, { owners: now.owners, lit, chosen, colors });
}

function light(number) {
  if (number === lit || !now) return;
  lit = number;
  paint();
  for (const made of $("tiles").children) made.classList.toggle("lit", Number(made.dataset.number) === lit);
}

function ownerAt(canvas, event, owners) {
  const [x, y] = under(canvas, event, base.height, base.width);
  if (x < 0 || y < 0 || x >= base.width || y >= base.height) return null;
  const owner = owners[y * base.width + x];
  return owner === NOBODY ? null : owner;
}

$("image").onpointermove = (event) => light(base ? ownerAt($("image"), event, base.owners) : null);
$("image").onpointerleave = $("drawing").onpointerleave = () => { if (!drag) light(null); };
$("image").onclick = (event) => choose(ownerAt($("image"), event, base.owners));

$("drawing").onpointerdown = (event) => {
  if (!now || film) return;
  const owner = ownerAt($("drawing"), event, now.owners);
  choose(owner);
  if (owner === null) return;
  drag = { at: under($("drawing"), event, base.height, base.width), began: false };
  $("drawing").setPointerCapture(event.pointerId);
};
$("drawing").onpointermove = (event) => {
  if (!now) return;
  if (!drag) {
    const owner = ownerAt($("drawing"), event, film ? film.frames[film.at].owners : now.owners);
    $("drawing").classList.toggle("over", owner !== null);
    light(owner);
    return;
  }
  const at = under($("drawing"), event, base.height, base.width);
  const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]];
  if (!dx && !dy) return;
  lit = null;
  drag.at = at;
  move(dx, dy, !drag.began);
  drag.began = true;
};
$("drawing").onpointerup = $("drawing").onpointercancel = () => { drag = null; };

// Films: frames of a clip, steps of inference, object by object

function showTime() {
  const frames = film ? film.frames.length : view?.frames;
  $("time").hidden = !frames;
  if (!frames) return;
  $("frame").max = frames - 1;
  $("frame").value = film ? film.at : view.frame;
  $("moment").textContent = film ? `${film.at + 1} of ${frames}: ${film.frames[film.at].name}` : `Frame ${view.frame + 1} of ${frames}`;
  $("close").hidden = !film;
  $("drawn").textContent = film ? film.title : drawnCaption();
}

async function goTo(at) {
  if (film) { film.at = at; paint(); showTime(); return; }
  await open(view.ref, at);
}

function stop() {
  clearTimeout(playing);
  playing = null;
  $("play").textContent = "Play";
}

function play() {
  if ($("time").hidden) return;
  if (playing) { stop(); return; }
  $("play").textContent = "Stop";
  const step = guarded(async () => {
    const frames = film ? film.frames.length : view.frames;
    await goTo(((film ? film.at : view.frame) + 1) % frames);
    if (playing) playing = setTimeout(step, 1000 / (film ? 3 : about.data?.fps ?? 5));
  });
  playing = setTimeout(step, 0);
}

function openFilm(title, frames) {
  stop();
  film = { title, frames, at: 0 };
  showTime();
  play();
}

function closeFilm() {
  acts = [];
  remember();
  film = null;
  stop();
  showTime();
  paint();
}

const showStages = guarded(async () => {
  const steps = await ask("stages", { ref: view.ref });
  if (!steps.length) { say(`${about.model} draws a scene in one step, so there are no steps to show.`); return; }
  const frames = [];
  for (const step of steps) {
    const layers = await readLayers({ ...step, size: [base.height, base.width] });
    frames.push({ name: step.name, recon: layers.recon, owners: layers.owners });
  }
  openFilm("Steps of inference", frames);
});

const predict = guarded(async () => {
  say("The model imagines what comes next …");
  const context = Math.min(view.frame + 1, view.frames - 1);
  const found = await ask("predict", { ref: view.ref, context });
  const table = element("table", "");
  const row = (name, frames, first) => {
    const made = element("tr", "");
    made.append(element("th", name), ...Array.from({ length: first }, () => element("td", "")), ...frames.map((url, i) => {
      const cell = element("td", "");
      cell.append(Object.assign(new Image(), { src: url, alt: `${name}, frame ${first + i + 1}` }));
      return cell;
    }));
    return made;
  };
  table.append(row("truth", found.truth, 0), ...found.futures.map((future, s) => row(`future ${s + 1}`, future, found.context)));
  $("futures").replaceChildren(table);
  $("futures").hidden = false;
  say(`Three futures after ${found.context} frames, beside the truth.`);
});

// Actions: each press chooses the next one, and the model imagines what follows

function showActions() {
  $("act").hidden = !(about.actions && view.frames && online);
  if ($("act").hidden) return;
  const { names, low, high, one } = about.actions;
  $("which-label").hidden = !one;
  $("action-numbers").hidden = one;
  if (one) {
    if ($("which").options.length !== names.length) $("which").replaceChildren(...names.map((name, i) => new Option(name, String(i))));
  } else if ($("action-numbers").children.length !== names.length) {
    $("action-numbers").replaceChildren(...names.map((name, i) => {
      const label = element("label", name);
      label.append(Object.assign(document.createElement("input"),
        { type: "range", min: low[i], max: high[i], step: (high[i] - low[i]) / 100 || 1, value: (low[i] + high[i]) / 2 }));
      return label;
    }));
  }
  showActed();
}

function showActed() {
  const { names, one } = about.actions;
  const told = acts.map((act) => (one ? names[act.indexOf(1)] : act.map((value) => value.toFixed(2)).join(" ")));
  $("acted").textContent = told.length ? `Actions after frame ${view.frame + 1}: ${told.join("; ")}.`
    : one ? "Left and right choose an action, Act or Enter does it."
    : "Arrows set the last two numbers as far as they go; a chosen object sets the first two to its place.";
  $("take-back").disabled = !acts.length;
}

function actionNow() {
  const { names, one } = about.actions;
  if (one) return names.map((_, i) => (i === Number($("which").value) ? 1 : 0));
  return [...$("action-numbers").querySelectorAll("input")].map((input) => Number(input.value));
}

function centerOf(number) {
  let x = 0, y = 0, count = 0;
  base.owners.forEach((owner, p) => { if (owner === number) { x += p % base.width; y += Math.floor(p / base.width); count += 1; } });
  return count ? [(x / count + 0.5) / base.width, (y / count + 0.5) / base.height] : null;
}

function arrowAct(key) {
  const { names, low, high, one } = about.actions;
  if (one) {
    if (key === "ArrowUp" || key === "ArrowDown") return;
    $("which").value = String((Number($("which").value) + (key === "ArrowRight" ? 1 : names.length - 1)) % names.length);
    return;
  }
  const inputs = [...$("action-numbers").querySelectorAll("input")], last = inputs.length - 1;
  const set = (i, share) => { inputs[i].value = low[i] + share * (high[i] - low[i]); };
  const center = chosen !== null && last === 3 ? centerOf(chosen) : null;
  if (center) center.forEach((share, i) => set(i, share));
  const across = { ArrowLeft: 0, ArrowRight: 1 }[key], along = { ArrowUp: 0, ArrowDown: 1 }[key];
  if (last > 0) { set(last - 1, across ?? 0.5); set(last, along ?? 0.5); } else set(0, across ?? along);
  act();
}

const act = () => imagineActs([...acts, actionNow()]);

const imagineActs = guarded(async (wanted) => {
  const at = view;
  if (!wanted.length) { closeFilm(); showActed(); return; }
  const steps = await ask("imagine", { ref: view.ref, frame: view.frame, actions: wanted });
  if (at !== view) return;
  const frames = [];
  for (const step of steps) {
    const layers = await readLayers({ ...step, size: [base.height, base.width] });
    frames.push({ name: step.name, recon: layers.recon, owners: layers.owners });
  }
  stop();
  film = { title: "What the model imagines after these actions", frames, at: frames.length - 1 };
  acts = wanted;
  remember();
  paint();
  showTime();
  showActed();
});

// Taking things along

function save(name, blob) {
  const link = element("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function savePixels(name, pixels, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), width, height), 0, 0);
  canvas.toBlob((blob) => save(name, blob), "image/png");
}

function saveMasks() {
  const area = base.height * base.width;
  const pixels = new Uint8ClampedArray(4 * area * now.parts.length);
  now.parts.forEach((part, k) => part.mask.forEach((m, p) => pixels.set([m, m, m, 255], 4 * (k * area + p))));
  savePixels("masks.png", pixels, base.width, base.height * now.parts.length);
}

const python = (value) => JSON.stringify(value).replaceAll("true", "True").replaceAll("false", "False").replaceAll("null", "None");

function showPython() {
  const edits = request().map(({ told }) => told);
  const lines = ["import objectscape", "", `session = objectscape.explore(${about.source ?? "..."}, serve=False).session`];
  if ("picture" in view.ref) lines.push('scene = session.add_picture(open("picture.png", "rb").read())');
  else lines.push(`scene = ${python(view.ref)}`);
  lines.push("seen = session.see(scene).output                       # masks, components, slots, recon");
  if (edits.some(edited)) lines.push(`drawn = session.edited(scene, ${python(edits.filter((told) => edited(told)))}, frame=${view.frame})`);
  $("python").textContent = lines.join("\n");
  $("python").hidden = false;
  $("python").focus();
}

// Hands and keys

const step = (by) => guarded(async () => {
  const { ref } = view;
  const count = "sample" in ref ? 8 : about.splits[ref.split] ?? 0;
  const split = Object.keys(about.splits)[0];
  if ("picture" in ref || !count) { if (split) await open({ split, index: 0 }); return; }
  await open({ ...ref, index: (ref.index + by + count) % count });
})();

const imagine = guarded(async () => {
  const { ref } = view;
  if (!about.samples) return;
  await open("sample" in ref ? { sample: ref.index === 7 ? ref.sample + 1 : ref.sample, index: (ref.index + 1) % 8 } : { sample: 0, index: 0 });
});

const take = guarded(async (file) => {
  if (about.words) { await showPictureInWords(file); return; }
  if (!online) throw new Error("Pictures need the server: objectscape explore");
  if (file.size > 16 * 2 ** 20) throw new Error("The file is too large; at most 16 MB are read.");
  say(`Reading ${file.name || "the picture"} …`);
  await open(await addPicture(file));
});

addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("drop"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("drop"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("drop");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) take(file);
});

const KEYS = {
  n: () => step(1), p: () => step(-1), d: duplicate, x: openOther, z: undo, r: reset, i: imagine, s: showStages,
  m: () => models.length > 1 && takeHold((inHandNow + 1) % models.length), a: () => { if (!$("act").hidden) $("pad").focus(); },
  b: () => openFilm("Object by object", buildUp(base)), "?": () => $("keys").showModal(), Delete: remove, Backspace: remove,
  Escape: () => (film ? closeFilm() : choose(null)),
};

addEventListener("keydown", (event) => {
  if (!view || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=range]), select, textarea")) return;
  if (event.target.matches("input[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key)) return;
  if (event.target.closest("#pad") && event.key.startsWith("Arrow")) { arrowAct(event.key); event.preventDefault(); return; }
  if (event.target.id === "pad" && event.key === "Enter") { act(); return; }
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in arrows && chosen !== null) {
    const far = event.shiftKey ? 5 : 1;
    move(...arrows[event.key].map((by) => by * far));
  } else if (/^[1-9]$/.test(event.key) && objects[event.key - 1]) choose(event.key - 1);
  else if (event.key === " " && !event.target.matches("button")) play();
  else if (KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key]) KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key]();
  else return;
  event.preventDefault();
});

function wire() {
  $("split").replaceChildren(...Object.keys(about.splits).map((name) => element("option", name, { value: name })));
  $("split").onchange = () => guarded(open)({ split: $("split").value, index: 0 });
  $("index").onchange = () => {
    const count = about.splits[$("split").value];
    guarded(open)({ split: $("split").value, index: Math.min(Math.max(0, Math.trunc(Number($("index").value)) || 0), count - 1) });
  };
  const actions = {
    before: KEYS.p, after: KEYS.n, imagine, help: KEYS["?"], remove, copy: duplicate, swap: openOther, undo, reset, play,
    close: closeFilm, predict, stages: showStages, build: KEYS.b, "save-masks": saveMasks, "save-python": showPython,
    "save-image": () => savePixels("picture.png", film ? film.frames[film.at].recon : now.recon, base.width, base.height),
    "save-slots": guarded(async () => save("slots.npz", await slotsFile({ ref: view.ref, frame: view.frame }))),
    "save-page": guarded(async () => save("page.html", await pageFile())),
  };
  for (const [name, action] of Object.entries(actions)) $(name).onclick = () => view && action();
  $("other-index").onchange = showOther;
  $("frame").oninput = () => { stop(); guarded(goTo)(Number($("frame").value)); };
  $("file").onchange = () => { if ($("file").files[0]) take($("file").files[0]); $("file").value = ""; };
  for (const arrow of $("pad").children) arrow.onclick = () => arrowAct(arrow.dataset.arrow);
  $("do").onclick = act;
  $("take-back").onclick = () => imagineActs(acts.slice(0, -1));
  showAbilities();
}

function showAbilities() {
  const has = { data: Object.keys(about.splits).length, samples: about.samples, online };
  for (const part of document.querySelectorAll("[data-if]")) part.hidden = !has[part.dataset.if];
  $("stages").hidden = !about.stages;
  const data = about.data ? `, ${about.data.name}` : "";
  $("about").textContent = `${about.name}: ${about.model}${data}`;
  document.title = `${about.name} – objectscape explore`;
}

async function openAddress(fallback) {
  const { ref, frame, edits, model, actions } = readAddress(fallback);
  if (!ref) { say("There is no data set. Open, drop or paste a picture."); return; }
  if (models[model]) { inHandNow = model; about = models[model]; takeInHand(model); showAbilities(); }
  await open(ref, frame, edits);
  if (actions.length && !$("act").hidden) await imagineActs(actions);
}

const firstScene = () => {
  const split = Object.keys(about.splits)[0];
  return split ? { split, index: 0 } : about.samples ? { sample: 0, index: 0 } : null;
};

addEventListener("hashchange", () => {
  if (!about) return;
  if (about.words) location.reload();
  else guarded(openAddress)(firstScene());
});

guarded(async () => {
  ({ models } = await askAbout());
  about = models[0];
  if (about.words) {
    $("about").textContent = `${about.name}: ${about.model}`;
    document.title = `${about.name} – objectscape explore`;
    await startWords(about, say, guarded);
    return;
  }
  wire();
  await openAddress(firstScene());
})();
