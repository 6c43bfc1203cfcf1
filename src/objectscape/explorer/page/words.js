// A workspace: a sentence drawn, a picture told, an attribute changed.

import { addPicture, ask } from "./source.js";

const part = (id) => document.getElementById(id);
const ATTRIBUTE_NAMES = ["class", "x", "y", "size", "rotation", "red", "green", "blue"];
let asked = null;      // what was told or shown last: {text}, {row} or {ref}
let tellNumber = 0;
let wordsAbout = null, tellUser = null;

export const wordsAddress = () => new URLSearchParams(location.hash.slice(1)).get("tell");

function rememberAsked() {
  history.replaceState(null, "", `#${new URLSearchParams({ tell: JSON.stringify(asked) })}`);
}

async function tell(question) {
  const number = ++tellNumber;
  asked = question;
  rememberAsked();
  let found;
  try {
    found = await ask("tell", question);
  } catch (error) {
    if (error.status === 409) return;
    throw error;
  }
  if (number !== tellNumber) return;
  const { known } = wordsAbout.words;
  part("shown").hidden = !found.image;
  if (found.image) part("shown-image").src = found.image;
  part("told-images").replaceChildren(...found.pictures.map((url, i) => Object.assign(new Image(), {
    src: url, alt: found.pictures.length > 1 ? `What it can mean, ${i + 1}` : "What the model draws" })));
  part("told").hidden = !found.pictures.length;
  part("told-caption").textContent = found.pictures.length > 1 ? "What the sentence leaves open, filled in" : "What the model draws";
  if (found.source !== "text" && found.sentence !== null) part("sentence").value = found.sentence;
  part("says").textContent = found.sentence === null ? "" : `The model says: ${found.sentence}`;
  if (found.row) showRow(found.row);
  const from = { text: "a sentence", image: "a picture", attributes: "attributes" }[found.source];
  const read = known.filter((name) => name !== found.source).join(" and ");
  tellUser(`From ${from} to ${read}.${found.note ? ` The picture was ${found.note}.` : ""}`);
}

function showRow(row) {
  ATTRIBUTE_NAMES.forEach((name, i) => {
    const input = part(`attribute-${name}`);
    if (document.activeElement !== input) input.value = name === "class" ? String(Math.round(row[i])) : row[i];
    const shown = part(`value-${name}`);
    if (shown) shown.textContent = Number(input.value).toFixed(name === "rotation" ? 2 : 0);
  });
}

function attributeInputs() {
  const { kinds, ranges } = wordsAbout.words;
  return ATTRIBUTE_NAMES.map((name) => {
    const label = document.createElement("label");
    label.append(name === "class" ? "shape" : name);
    let input;
    if (name === "class") {
      input = document.createElement("select");
      kinds.forEach((kind, i) => input.append(new Option(kind, String(i))));
    } else {
      const [low, high] = ranges[name];
      input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step: (high - low) / 100 });
    }
    input.id = `attribute-${name}`;
    label.append(input);
    if (name !== "class") label.append(Object.assign(document.createElement("output"), { id: `value-${name}` }));
    return label;
  });
}

export async function startWords(about, say, guarded) {
  wordsAbout = about;
  tellUser = say;
  const { known } = about.words;
  for (const name of document.querySelectorAll("main > section, #time, #futures")) name.hidden = name.id !== "words";
  part("tell-text").hidden = !known.includes("text");
  part("tell-image").hidden = !known.includes("image");
  part("attributes").replaceChildren(...attributeInputs());
  const told = guarded(tell);
  const row = () => ATTRIBUTE_NAMES.map((name) => Number(part(`attribute-${name}`).value));
  part("attributes").oninput = () => { showRow(row()); told({ row: row() }); };
  part("tell-text").onsubmit = (event) => { event.preventDefault(); told({ text: part("sentence").value }); };
  const scene = (index) => {
    const count = about.splits.test;
    part("words-index").value = (Math.trunc(Number(index) || 0) + count) % count;
    told({ ref: { split: "test", index: Number(part("words-index").value) } });
  };
  part("words-index").onchange = () => scene(part("words-index").value);
  part("words-before").onclick = () => scene(Number(part("words-index").value) - 1);
  part("words-after").onclick = () => scene(Number(part("words-index").value) + 1);
  part("words-file").onchange = guarded(async () => {
    const file = part("words-file").files[0];
    part("words-file").value = "";
    if (file) await tell({ ref: await addPicture(file) });
  });
  let first = known.includes("image") ? { ref: { split: "test", index: 0 } } : { row: [1, 16, 16, 10, 0, 200, 60, 60] };
  try { first = JSON.parse(wordsAddress()) ?? first; } catch { /* an address that was cut off */ }
  if (first.text !== undefined) part("sentence").value = first.text;
  if (first.ref?.index !== undefined) part("words-index").value = first.ref.index;
  await tell(first);
  if (first.row) showRow(first.row);
}

export const showPictureInWords = async (file) => tell({ ref: await addPicture(file) });
