// Where answers come from: the server, or in an exported page the data inside it.

const inside = document.getElementById("data");
const stored = inside ? JSON.parse(inside.textContent) : null;
export const online = !stored;

let inHand = 0;
export function takeInHand(number) { inHand = number; }

export const keyOf = (ref) => JSON.stringify(Object.entries(ref).sort());

async function refuse(answer) {
  let text = `the server answered ${answer.status}`;
  try { text = (await answer.json()).error; } catch { /* not from our server */ }
  const error = new Error(text);
  error.status = answer.status;
  throw error;
}

async function post(name, body, raw = false) {
  let answer;
  try {
    answer = await fetch(`api/${name}`, {
      method: "POST", body: raw ? body : JSON.stringify(body), headers: raw ? {} : { "Content-Type": "application/json" },
    });
  } catch { throw new Error("the server does not answer; start `objectscape explore` again"); }
  return answer.ok ? answer : refuse(answer);
}

export async function askAbout() {
  if (stored) return stored.about;
  const answer = await fetch("api/about");
  return answer.ok ? answer.json() : refuse(answer);
}

// `body.model` says which of the models is asked; without it, the one in hand.
export async function ask(name, body) {
  if (!stored) return (await post(name, { model: inHand, ...body })).json();
  const found = stored[name]?.[keyOf(body.ref) + (body.frame ? `@${body.frame}` : "")];
  if (!found) throw new Error(name === "view" ? "this scene is not in this file" : "this needs the server: objectscape explore");
  return found;
}

export const addPicture = async (file) => (await post("picture", file, true)).json();
export const slotsFile = async (body) => (await post("slots", { model: inHand, ...body })).blob();
export const pageFile = async () => (await fetch("api/export")).blob();
