// What happened is in the address, after "#": scene, frame, edits, the model in hand, actions. A link or a reload gives the same view.

const whole = (text) => (/^\d+$/.test(text ?? "") ? Number(text) : 0);

export function readAddress(fallback) {
  const values = new URLSearchParams(location.hash.slice(1));
  const [kind, first, second] = (values.get("scene") ?? "").split("/");
  let ref = fallback;
  if (kind === "picture" && first) ref = { picture: first };
  else if (kind === "sample") ref = { sample: whole(first), index: whole(second) };
  else if (kind && first) ref = { split: kind, index: whole(first) };
  let edits = [];
  try { edits = JSON.parse(values.get("edits") ?? "[]"); } catch { /* an address that was cut off */ }
  let actions = [];
  try { actions = JSON.parse(values.get("actions") ?? "[]"); } catch { /* likewise */ }
  return { ref, frame: whole(values.get("frame")), edits: Array.isArray(edits) ? edits : [], model: whole(values.get("model")),
    actions: Array.isArray(actions) ? actions : [] };
}

export function sceneText(ref) {
  if ("picture" in ref) return `picture/${ref.picture}`;
  if ("sample" in ref) return `sample/${ref.sample}/${ref.index}`;
  return `${ref.split}/${ref.index}`;
}

export function writeAddress(ref, frame, edits, model = 0, actions = []) {
  const values = new URLSearchParams({ scene: sceneText(ref) });
  if (frame) values.set("frame", frame);
  if (edits.length) values.set("edits", JSON.stringify(edits));
  if (model) values.set("model", model);
  if (actions.length) values.set("actions", JSON.stringify(actions));
  history.replaceState(null, "", `#${values}`);
}

export const edited = (thing) =>
  Boolean(thing.dx || thing.dy || thing.gone || thing.copy || thing.from || Object.keys(thing.set ?? {}).length);

// The least that says what was done to an object.
export function brief(thing) {
  const short = { slot: thing.slot };
  for (const key of ["dx", "dy"]) if (thing[key]) short[key] = thing[key];
  for (const key of ["gone", "copy"]) if (thing[key]) short[key] = true;
  if (thing.from) short.from = thing.from;
  if (Object.keys(thing.set ?? {}).length) short.set = thing.set;
  return short;
}
