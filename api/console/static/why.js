// Draws on a result why it was marked: what the frame cuts, the parts, soft areas, an unsure edge.
const SIDE = 220; // of the small copy that is looked at
const INK = { cut: [220, 38, 38], parts: [217, 119, 6], soft: [147, 51, 234], edge: [220, 38, 38] };

export function drawWhy(item, canvas, shown) {
  const reasons = new Set(item.review_reasons);
  if (!["cut", "parts", "soft", "low-contrast", "unsure"].some((one) => reasons.has(one))) return;
  const draw = () => {
    try { paint(reasons, canvas, shown); } catch { /* the storage lets no script read pixels */ }
  };
  // The same file with leave to read it; without that leave only the drawing is missing.
  const copy = new Image();
  copy.crossOrigin = "anonymous";
  copy.onload = () => { shown = copy; draw(); };
  copy.src = shown.src;
}

function paint(reasons, canvas, image) {
  const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const width = Math.max(1, Math.round(image.naturalWidth * scale)), height = Math.max(1, Math.round(image.naturalHeight * scale));
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height), data = pixels.data;
  const alpha = Uint8Array.from({ length: width * height }, (_, at) => data[4 * at + 3]);
  data.fill(0);
  const dot = (at, [r, g, b], a = 230) => data.set([r, g, b, a], 4 * at);
  const solid = (x, y) => x >= 0 && y >= 0 && x < width && y < height && alpha[y * width + x] > 127;
  if (reasons.has("parts")) outlineParts(alpha, width, height, dot);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const at = y * width + x;
    if (reasons.has("soft") && alpha[at] > 40 && alpha[at] < 215) dot(at, INK.soft, 130);
    if ((reasons.has("low-contrast") || reasons.has("unsure")) && solid(x, y) && !(solid(x - 1, y) && solid(x + 1, y) && solid(x, y - 1) && solid(x, y + 1))) dot(at, INK.edge, 170);
    if (reasons.has("cut") && solid(x, y) && (x < 2 || y < 2 || x >= width - 2 || y >= height - 2)) dot(at, INK.cut);
  }
  context.putImageData(pixels, 0, 0);
}

// A box around each part that touches no other.
function outlineParts(alpha, width, height, dot) {
  const seen = new Uint8Array(alpha.length);
  for (let start = 0; start < alpha.length; start++) {
    if (seen[start] || alpha[start] < 128) continue;
    const stack = [start];
    seen[start] = 1;
    let [left, right, top, bottom, size] = [width, 0, height, 0, 0];
    while (stack.length) {
      const at = stack.pop(), x = at % width, y = (at - x) / width;
      size++;
      left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
      for (const to of [x > 0 && at - 1, x < width - 1 && at + 1, y > 0 && at - width, y < height - 1 && at + width]) {
        if (to !== false && !seen[to] && alpha[to] > 127) { seen[to] = 1; stack.push(to); }
      }
    }
    if (size < 4) continue;
    for (let x = left; x <= right; x++) { dot(top * width + x, INK.parts); dot(bottom * width + x, INK.parts); }
    for (let y = top; y <= bottom; y++) { dot(y * width + left, INK.parts); dot(y * width + right, INK.parts); }
  }
}
