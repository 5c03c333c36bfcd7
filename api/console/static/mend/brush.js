// A stroke of the brush: stamps along the pointer's way. A pixel gets the most that one stamp of the
// stroke gives, so that going over a place twice within a stroke changes nothing more.
const EDGE_SIDE = 112; // of the patch in which the edge-aware brush looks for edges
const EDGE_REACH = 48; // how much colour a path may change before it counts as across an edge

export class Stroke {
  // `target`: 0 erases, 255 restores. `softness`, `strength`: 0..1. `radius` in pixels of the photo.
  constructor(matte, { target, softness, strength, edgeAware }) {
    Object.assign(this, { matte, target, softness, strength, edgeAware, before: new Map(), cover: new Map(), last: null });
  }

  // Goes on to a place; the rectangle that changed, or null.
  to(x, y, radius) {
    const from = this.last ?? { x, y, radius };
    const length = Math.hypot(x - from.x, y - from.y);
    const steps = Math.max(1, Math.ceil(length / Math.max(1, radius * (this.edgeAware ? 0.5 : 0.2))));
    let changed = null;
    for (let step = this.last ? 1 : 0; step <= steps; step++) {
      const share = step / steps;
      const one = this.#stamp(from.x + (x - from.x) * share, from.y + (y - from.y) * share, from.radius + (radius - from.radius) * share);
      changed = united(changed, one);
      if (length === 0) break;
    }
    this.last = { x, y, radius };
    if (changed) this.matte.refresh(...changed);
    return changed;
  }

  #stamp(x, y, radius) {
    const { matte } = this;
    const left = Math.max(0, Math.floor(x - radius)), top = Math.max(0, Math.floor(y - radius));
    const right = Math.min(matte.width, Math.ceil(x + radius) + 1), bottom = Math.min(matte.height, Math.ceil(y + radius) + 1);
    if (left >= right || top >= bottom) return null;
    for (const index of matte.touched(left, top, right, bottom)) this.#remember(index);
    const hard = radius * (1 - this.softness), fade = Math.max(radius - hard, 0.75);
    const allowed = this.edgeAware ? reachable(matte, x, y, radius) : null;
    for (let py = top; py < bottom; py++) {
      for (let px = left; px < right; px++) {
        const far = Math.hypot(px + 0.5 - x, py + 0.5 - y);
        if (far >= hard + fade) continue;
        let share = far <= hard ? 1 : 1 - (far - hard) / fade;
        if (share < 1) share = share * share * (3 - 2 * share);
        if (allowed) share *= allowed(px, py);
        const give = Math.round(share * this.strength * 255);
        if (give) this.#give(px, py, give);
      }
    }
    return [left, top, right, bottom];
  }

  #remember(index) {
    if (this.before.has(index)) return;
    const { left, top, width, height } = this.matte.place(index);
    const copy = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const row = (top + y) * this.matte.width + left;
      copy.set(this.matte.alpha.subarray(row, row + width), y * width);
    }
    this.before.set(index, copy);
    this.cover.set(index, new Uint8Array(width * height));
  }

  #give(x, y, give) {
    const { matte } = this;
    const index = Math.floor(y / 512) * matte.columns + Math.floor(x / 512);
    const width = Math.min(512, matte.width - (x - (x % 512)));
    const at = (y % 512) * width + (x % 512);
    const cover = this.cover.get(index);
    if (cover[at] >= give) return;
    cover[at] = give;
    const before = this.before.get(index)[at];
    matte.alpha[y * matte.width + x] = Math.round(before + (this.target - before) * give / 255);
  }

  // What the stroke changed: for each tile its bytes before and after, exclusive-or.
  delta() {
    const tiles = [];
    for (const [index, before] of this.before) {
      const { left, top, width, height } = this.matte.place(index);
      let any = 0;
      for (let y = 0; y < height; y++) {
        const row = (top + y) * this.matte.width + left;
        for (let x = 0; x < width; x++) any |= before[y * width + x] ^= this.matte.alpha[row + x];
      }
      if (any) tiles.push([index, before]);
    }
    return tiles;
  }
}

// How far each pixel of a stamp can be reached from its centre without crossing an edge: a geodesic
// distance by raster scans (Toivanen 1996; Criminisi et al. 2008) over the photo's colours.
function reachable(matte, x, y, radius) {
  const side = Math.min(EDGE_SIDE, Math.max(8, Math.ceil(2 * radius)));
  const step = (2 * radius) / side, left = x - radius, top = y - radius;
  const red = new Float32Array(side * side), green = new Float32Array(side * side), blue = new Float32Array(side * side);
  for (let v = 0; v < side; v++) for (let u = 0; u < side; u++) {
    [red[v * side + u], green[v * side + u], blue[v * side + u]] = matte.colour(left + (u + 0.5) * step, top + (v + 0.5) * step);
  }
  const far = new Float32Array(side * side).fill(1e9);
  const middle = side >> 1;
  for (const v of [middle - 1, middle]) for (const u of [middle - 1, middle]) far[v * side + u] = 0;
  const from = (to, at) => {
    const cost = far[at] + Math.abs(red[to] - red[at]) + Math.abs(green[to] - green[at]) + Math.abs(blue[to] - blue[at]);
    if (cost < far[to]) far[to] = cost;
  };
  for (let scan = 0; scan < 2; scan++) {
    for (let v = 0; v < side; v++) for (let u = 0; u < side; u++) {
      const at = v * side + u;
      if (u) from(at, at - 1);
      if (v) { from(at, at - side); if (u) from(at, at - side - 1); if (u < side - 1) from(at, at - side + 1); }
    }
    for (let v = side - 1; v >= 0; v--) for (let u = side - 1; u >= 0; u--) {
      const at = v * side + u;
      if (u < side - 1) from(at, at + 1);
      if (v < side - 1) { from(at, at + side); if (u < side - 1) from(at, at + side + 1); if (u) from(at, at + side - 1); }
    }
  }
  return (px, py) => {
    const u = Math.min(Math.max(Math.floor((px + 0.5 - left) / step), 0), side - 1), v = Math.min(Math.max(Math.floor((py + 0.5 - top) / step), 0), side - 1);
    const share = 2 - far[v * side + u] / EDGE_REACH;
    return share >= 1 ? 1 : share <= 0 ? 0 : share;
  };
}

export function united(one, other) {
  if (!one || !other) return one ?? other;
  return [Math.min(one[0], other[0]), Math.min(one[1], other[1]), Math.max(one[2], other[2]), Math.max(one[3], other[3])];
}
