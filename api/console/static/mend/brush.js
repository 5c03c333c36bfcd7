// A stroke of the brush: pieces along the pointer's way. A pixel gets the most that the stroke gives
// anywhere, so that going over a place twice within a stroke changes nothing more.

const EDGE_SIDE = 80; // of the patch in which the edge-aware brush looks for edges
const EDGE_REACH = 48; // how much colour a path may change before it counts as across an edge

export class Stroke {
  // `target`: 0 erases, 255 restores. `softness`, `strength`: 0..1.
  constructor(matte, { target, softness, strength, edgeAware }) {
    Object.assign(this, { matte, target, softness, strength, edgeAware, before: new Map(), cover: new Map(), last: null });
  }

  // Goes on to a place, with a radius in pixels of the photo; the rectangle that changed, or null.
  to(x, y, radius) {
    const start = this.last ?? { x, y, radius }, end = { x, y, radius };
    const length = Math.hypot(x - start.x, y - start.y);
    // A piece is not much longer than the brush is wide, so little beside the way is looked at.
    const steps = Math.max(1, Math.ceil(length / Math.max(1, 2 * radius)));
    let changed = null, from = start;
    for (let step = 1; step <= steps; step++) {
      const share = step / steps;
      const to = { x: start.x + (x - start.x) * share, y: start.y + (y - start.y) * share, radius: start.radius + (radius - start.radius) * share };
      changed = united(changed, this.#piece(from, to));
      from = to;
    }
    this.last = end;
    return changed;
  }

  // Covers what is near the line from `a` to `b`: its distance, less the hard part, fades smoothly.
  #piece(a, b) {
    const { matte, softness, target } = this;
    const most = Math.round(this.strength * 255);
    const far = Math.max(a.radius, b.radius), edge = far + 0.75;
    const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - edge)), top = Math.max(0, Math.floor(Math.min(a.y, b.y) - edge));
    const right = Math.min(matte.width, Math.ceil(Math.max(a.x, b.x) + edge) + 1), bottom = Math.min(matte.height, Math.ceil(Math.max(a.y, b.y) + edge) + 1);
    if (left >= right || top >= bottom || !most) return null;
    const dx = b.x - a.x, dy = b.y - a.y, dr = b.radius - a.radius, length2 = dx * dx + dy * dy;
    const inverse = length2 > 0 ? 1 / length2 : 0;
    const [ax, ay, ar] = [a.x, a.y, a.radius], { alpha } = matte;
    let changed = null;
    const allowed = this.edgeAware ? reachable(matte, a, b, left, top, right, bottom) : null;
    // What a place can get at most, and in which column of that table a pixel is.
    const limits = allowed?.reach.map((share) => Math.round(most * share / 255));
    const columnOf = allowed && Uint16Array.from({ length: right - left }, (_, x) => Math.min(Math.floor((x + 0.5) / allowed.step), allowed.columns - 1));
    for (const index of matte.touched(left, top, right, bottom)) {
      const place = matte.place(index), { before, cover } = this.#remembered(index);
      const x0 = Math.max(left, place.left), x1 = Math.min(right, place.left + place.width);
      const y0 = Math.max(top, place.top), y1 = Math.min(bottom, place.top + place.height);
      let [lo, hi, upper, lower] = [x1, x0, y1, y0];
      for (let y = y0; y < y1; y++) {
        const row = (y - place.top) * place.width - place.left, out = y * matte.width;
        const py = y + 0.5 - ay, along = py * dy;
        const cells = allowed ? Math.min(Math.floor((y + 0.5 - top) / allowed.step), allowed.rows - 1) * allowed.columns : 0;
        for (let x = x0; x < x1; x++) {
          const at = row + x;
          const limit = limits ? limits[cells + columnOf[x - left]] : most;
          if (cover[at] >= limit) continue;
          const px = x + 0.5 - ax;
          let t = (px * dx + along) * inverse;
          t = t < 0 ? 0 : t > 1 ? 1 : t;
          const ex = px - t * dx, ey = py - t * dy, d2 = ex * ex + ey * ey;
          const radius = ar + t * dr, hard = radius * (1 - softness), fade = radius - hard > 0.75 ? radius - hard : 0.75;
          if (d2 >= (hard + fade) * (hard + fade)) continue;
          let give = limit;
          if (d2 > hard * hard) {
            const share = 1 - (Math.sqrt(d2) - hard) / fade;
            give = (limit * share * share * (3 - 2 * share) + 0.5) | 0;
          }
          if (cover[at] >= give) continue;
          cover[at] = give;
          const was = before[at];
          alpha[out + x] = (was + (target - was) * give / 255 + 0.5) | 0;
          if (x < lo) lo = x;
          if (x >= hi) hi = x + 1;
          if (y < upper) upper = y;
          lower = y + 1;
        }
      }
      if (lo >= hi) continue;
      matte.touch(index, lo, upper, hi, lower);
      changed = united(changed, [lo, upper, hi, lower]);
    }
    return changed;
  }

  #remembered(index) {
    let before = this.before.get(index);
    if (!before) {
      const { left, top, width, height } = this.matte.place(index);
      before = new Uint8Array(width * height);
      for (let y = 0; y < height; y++) {
        const row = (top + y) * this.matte.width + left;
        before.set(this.matte.alpha.subarray(row, row + width), y * width);
      }
      this.before.set(index, before);
      this.cover.set(index, new Uint8Array(width * height));
    }
    return { before, cover: this.cover.get(index) };
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

// How far each place of a rectangle can be reached from the line from `a` to `b` without crossing an
// edge, 0..255: a geodesic distance by raster scans (Toivanen 1996; Criminisi et al. 2008) over the
// photo's colours.
function reachable(matte, a, b, left, top, right, bottom) {
  const { columns, rows, step, data } = matte.sample(left, top, right, bottom, EDGE_SIDE);
  const cost = new Int32Array(columns * rows).fill(1e9);
  const cell = (value, count) => Math.min(Math.max(Math.floor(value / step), 0), count - 1);
  const steps = Math.ceil(Math.hypot(b.x - a.x, b.y - a.y) / step) || 1;
  for (let at = 0; at <= steps; at++) {
    const x = a.x + (b.x - a.x) * at / steps - left, y = a.y + (b.y - a.y) * at / steps - top;
    cost[cell(y, rows) * columns + cell(x, columns)] = 0;
  }
  const from = (to, at) => {
    const one = 4 * to, other = 4 * at;
    const sum = cost[at] + Math.abs(data[one] - data[other]) + Math.abs(data[one + 1] - data[other + 1]) + Math.abs(data[one + 2] - data[other + 2]);
    if (sum < cost[to]) cost[to] = sum;
  };
  for (let scan = 0; scan < 2; scan++) {
    for (let v = 0; v < rows; v++) for (let u = 0; u < columns; u++) {
      const at = v * columns + u;
      if (u) from(at, at - 1);
      if (v) { from(at, at - columns); if (u) from(at, at - columns - 1); if (u < columns - 1) from(at, at - columns + 1); }
    }
    for (let v = rows - 1; v >= 0; v--) for (let u = columns - 1; u >= 0; u--) {
      const at = v * columns + u;
      if (u < columns - 1) from(at, at + 1);
      if (v < rows - 1) { from(at, at + columns); if (u < columns - 1) from(at, at + columns + 1); if (u) from(at, at + columns - 1); }
    }
  }
  const reach = new Uint8Array(columns * rows);
  for (let at = 0; at < reach.length; at++) {
    const share = 2 - cost[at] / EDGE_REACH;
    reach[at] = share >= 1 ? 255 : share <= 0 ? 0 : Math.round(255 * share);
  }
  return { columns, rows, step, reach };
}

export function united(one, other) {
  if (!one || !other) return one ?? other;
  return [Math.min(one[0], other[0]), Math.min(one[1], other[1]), Math.max(one[2], other[2]), Math.max(one[3], other[3])];
}
