// Pictures as arrays: reading PNG, cutting objects out and pasting them, drawing with an outline.

export const NOBODY = 255;

async function rgba(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

const gray = (data) => Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);

// What the server calls layers: {height, width, recon, owners, parts: [{picture, mask}]}.
export async function readLayers(found) {
  const [height, width] = found.size;
  const area = height * width;
  const [recon, owners, components, masks] = await Promise.all(
    [found.recon, found.owners, found.components, found.masks].map((url) => (url ? rgba(url) : null)));
  const layers = { height, width, recon: recon.data, owners: gray(owners.data), parts: [], share: found.share ?? [] };
  if (!components) return layers;
  const mask = gray(masks.data);
  for (let k = 0; k * area < mask.length; k += 1) {
    layers.parts.push({
      picture: components.data.subarray(4 * k * area, 4 * (k + 1) * area), mask: mask.subarray(k * area, (k + 1) * area),
    });
  }
  return layers;
}

export const readPicture = async (url) => (await rgba(url)).data;

// Parts that stay divide every pixel among them; parts that were moved or added are pasted over it.
// parts: [{picture, mask, dx, dy, gone, over}]
export function compose(parts, height, width) {
  const area = height * width;
  const recon = new Uint8ClampedArray(4 * area);
  const owners = new Uint8Array(area).fill(NOBODY);
  const stay = parts.map((part, i) => ({ ...part, i })).filter((part) => !part.gone && !part.over);
  const sizes = parts.map((part) => part.mask.reduce((a, b) => a + b, 0));
  const behind = stay.reduce((best, part) => (best === null || sizes[part.i] > sizes[best.i] ? part : best), null);
  for (let p = 0; p < area; p += 1) {
    let total = 0, red = 0, green = 0, blue = 0, most = 0;
    for (const part of stay) {
      const m = part.mask[p];
      if (!m) continue;
      total += m;
      red += m * part.picture[4 * p];
      green += m * part.picture[4 * p + 1];
      blue += m * part.picture[4 * p + 2];
      if (m > most) { most = m; owners[p] = part.i; }
    }
    if (total < 8 && behind) {  // nothing that stays claims this pixel: what lies behind shows
      total = 1; owners[p] = behind.i;
      [red, green, blue] = behind.picture.subarray(4 * p, 4 * p + 3);
    }
    const scale = total ? 1 / total : 0;
    recon.set([red * scale, green * scale, blue * scale, 255], 4 * p);
  }
  parts.forEach((part, i) => {
    if (part.gone || !part.over) return;
    for (let y = 0; y < height; y += 1) {
      const fromY = y - part.dy;
      if (fromY < 0 || fromY >= height) continue;
      for (let x = 0; x < width; x += 1) {
        const fromX = x - part.dx;
        if (fromX < 0 || fromX >= width) continue;
        const q = fromY * width + fromX, p = y * width + x, alpha = part.mask[q] / 255;
        if (!alpha) continue;
        for (let c = 0; c < 3; c += 1) {
          recon[4 * p + c] = alpha * part.picture[4 * q + c] + (1 - alpha) * recon[4 * p + c];
        }
        if (alpha > 0.5) owners[p] = i;
      }
    }
  });
  return { recon, owners };
}

// The scene as it grows: nothing, then one object more in every picture.
export function buildUp(layers) {
  const area = layers.height * layers.width;
  const sum = new Float32Array(4 * area);
  return [null, ...layers.parts].map((part, k) => {
    if (part) for (let i = 0; i < 4 * area; i += 1) sum[i] += (part.mask[i >> 2] / 255) * part.picture[i];
    const recon = Uint8ClampedArray.from(sum);
    for (let p = 0; p < area; p += 1) recon[4 * p + 3] = 255;
    const owners = layers.owners.map((owner) => (owner < k ? owner : NOBODY));
    return { name: part ? `object ${k}` : "nothing yet", recon, owners };
  });
}

// Draws pixels so large that an outline is sharp. `lit` and `chosen` are numbers in `owners`, or null.
export function draw(canvas, pixels, height, width, { owners = null, lit = null, chosen = null, colors = [] } = {}) {
  const scale = Math.max(1, Math.round(420 / Math.max(width, height)));
  canvas.width = width * scale;
  canvas.height = height * scale;
  const small = document.createElement("canvas");
  small.width = width;
  small.height = height;
  const shown = new Uint8ClampedArray(pixels);
  if (owners && lit !== null) {
    for (let p = 0; p < owners.length; p += 1) {
      if (owners[p] === lit) continue;
      for (let c = 0; c < 3; c += 1) shown[4 * p + c] = shown[4 * p + c] * 0.45;
    }
  }
  small.getContext("2d").putImageData(new ImageData(shown, width, height), 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  for (const [which, line] of [[lit, 2], [chosen, 3]]) {
    if (!owners || which === null) continue;
    outline(context, owners, which, height, width, scale, "#000000", line + 3);
    outline(context, owners, which, height, width, scale, which === chosen ? "#ffffff" : colors[which] ?? "#ffffff", line);
  }
}

function outline(context, owners, which, height, width, scale, color, line) {
  const own = (x, y) => x >= 0 && y >= 0 && x < width && y < height && owners[y * width + x] === which;
  context.beginPath();
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!own(x, y)) continue;
      const [left, top, right, bottom] = [x * scale, y * scale, (x + 1) * scale, (y + 1) * scale];
      if (!own(x - 1, y)) { context.moveTo(left, top); context.lineTo(left, bottom); }
      if (!own(x + 1, y)) { context.moveTo(right, top); context.lineTo(right, bottom); }
      if (!own(x, y - 1)) { context.moveTo(left, top); context.lineTo(right, top); }
      if (!own(x, y + 1)) { context.moveTo(left, bottom); context.lineTo(right, bottom); }
    }
  }
  context.strokeStyle = color;
  context.lineWidth = line;
  context.stroke();
}

// Which pixel of the picture lies under the pointer: [x, y], perhaps outside.
export function under(canvas, event, height, width) {
  const box = canvas.getBoundingClientRect();
  return [Math.floor(((event.clientX - box.left) / box.width) * width), Math.floor(((event.clientY - box.top) / box.height) * height)];
}
