// A stroke of the brush: pieces along the pointer's way. A pixel gets the most that the stroke gives
// anywhere, so that going over a place twice within a stroke changes nothing more.

const EDGE_SIDE = 80; // of the patch in which the edge-aware brush looks for edges
const EDGE_REACH = 48; // how much colour a path may change before it counts as across an edge
const BITS = 4, BLOCK = 1 << BITS, HALF = BLOCK * Math.SQRT1_2; // pixels a side; from its middle to a corner

export class Stroke {
  // `target`: 0 erases, 255 restores. `softness`, `strength`: 0..1.
  constructor(matte, { target, softness, strength, edgeAware }) {
    Object.assign(this, { matte, softness, strength, edgeAware, layers: new Map(), last: null });
    // What a pixel becomes, by how much it gets and what it was.
    this.blend = new Uint8Array(1 << 16);
    for (let give = 0; give < 256; give++) for (let was = 0; was < 256; was++) this.blend[give << 8 | was] = (was + (target - was) * give / 255 + 0.5) | 0;
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
  // Blocks in which nothing can change are left out as a whole.
  #piece(a, b) {
    const { matte, softness } = this;
    const most = Math.round(this.strength * 255);
    const far = Math.max(a.radius, b.radius), edge = far + 0.75;
    const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - edge)), top = Math.max(0, Math.floor(Math.min(a.y, b.y) - edge));
    const right = Math.min(matte.width, Math.ceil(Math.max(a.x, b.x) + edge) + 1), bottom = Math.min(matte.height, Math.ceil(Math.max(a.y, b.y) + edge) + 1);
    if (left >= right || top >= bottom || !most) return null;
    const piece = { left, top, ...lineOf(a, b), softness, limits: this.edgeAware ? new Limits(matte, a, b, most, left, top, right, bottom) : null, most };
    const hard = far * (1 - softness), fade = Math.max(far - hard, 0.75);
    const safe = Math.min(a.radius, b.radius) * (1 - softness);
    let changed = null;
    for (const index of matte.touched(left, top, right, bottom)) {
      const place = matte.place(index), layer = this.#remembered(index), across = Math.ceil(place.width / BLOCK);
      const [u0, v0] = [Math.max(0, left - place.left) >> BITS, Math.max(0, top - place.top) >> BITS];
      const [u1, v1] = [Math.min(place.width, right - place.left), Math.min(place.height, bottom - place.top)];
      let box = null;
      for (let v = v0; v << BITS < v1; v++) for (let u = u0; u << BITS < u1; u++) {
        const x0 = place.left + (u << BITS), y0 = place.top + (v << BITS);
        const x1 = Math.min(x0 + BLOCK, place.left + place.width), y1 = Math.min(y0 + BLOCK, place.top + place.height);
        const middle = distance(piece, (x0 + x1) / 2, (y0 + y1) / 2), nearest = middle - HALF;
        if (nearest >= hard + fade) continue;
        const limit = piece.limits?.most(x0, y0, x1, y1) ?? most;
        const least = v * across + u;
        if (layer.least[least] >= (nearest <= hard ? limit : falling(limit, nearest - hard, fade))) continue;
        const inside = middle + HALF <= safe;
        if (!this.#cover(piece, place, layer, least, x0, y0, x1, y1, inside)) continue;
        if (!box) box = [x0, y0, x1, y1];
        else { if (x0 < box[0]) box[0] = x0; if (x1 > box[2]) box[2] = x1; if (y1 > box[3]) box[3] = y1; }
      }
      if (!box) continue;
      matte.touch(index, ...box);
      changed = united(changed, box);
    }
    return changed;
  }

  // The pixels of one block; `inside`: all of them lie in the hard part. Whether any changed.
  #cover({ ax, ay, ar, dx, dy, dr, inverse, softness, limits, most }, place, { before, cover, least }, block, x0, y0, x1, y1, inside) {
    const { alpha, width: across } = this.matte, { blend } = this;
    let any = false, low = 255, radius = ar, hard = radius * (1 - softness), fade = Math.max(radius - hard, 0.75), ends = hard + fade;
    for (let y = y0; y < y1; y++) {
      const row = (y - place.top) * place.width - place.left, out = y * across;
      const py = y + 0.5 - ay, along = py * dy, cells = limits ? limits.row(y) : 0;
      for (let x = x0; x < x1; x++) {
        const at = row + x, had = cover[at];
        let give = limits ? limits.values[cells + limits.columnOf[x - limits.left]] : most;
        if (had < give && !inside) {
          const px = x + 0.5 - ax;
          let t = (px * dx + along) * inverse;
          t = t < 0 ? 0 : t > 1 ? 1 : t;
          const ex = px - t * dx, ey = py - t * dy, d2 = ex * ex + ey * ey;
          if (dr) { radius = ar + t * dr; hard = radius * (1 - softness); fade = Math.max(radius - hard, 0.75); ends = hard + fade; }
          if (d2 >= ends * ends) give = 0;
          else if (d2 > hard * hard) give = falling(give, Math.sqrt(d2) - hard, fade);
        }
        if (had < give) {
          cover[at] = give;
          alpha[out + x] = blend[give << 8 | before[at]];
          any = true;
          if (give < low) low = give;
        } else if (had < low) low = had;
      }
    }
    least[block] = low;
    return any;
  }

  // Of a tile: its pixels before the stroke, how much each got, and the least in each block.
  #remembered(index) {
    let layer = this.layers.get(index);
    if (!layer) {
      const { left, top, width, height } = this.matte.place(index);
      layer = { before: new Uint8Array(width * height), cover: new Uint8Array(width * height), least: new Uint8Array(Math.ceil(width / BLOCK) * Math.ceil(height / BLOCK)) };
      for (let y = 0; y < height; y++) {
        const row = (top + y) * this.matte.width + left;
        layer.before.set(this.matte.alpha.subarray(row, row + width), y * width);
      }
      this.layers.set(index, layer);
    }
    return layer;
  }

  // What the stroke changed: for each tile its bytes before and after, exclusive-or.
  delta() {
    const tiles = [];
    for (const [index, { before }] of this.layers) {
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

// The line from `a` to `b` as the loops need it.
function lineOf(a, b) {
  const dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
  return { ax: a.x, ay: a.y, ar: a.radius, dx, dy, dr: b.radius - a.radius, inverse: length2 > 0 ? 1 / length2 : 0 };
}

function distance({ ax, ay, dx, dy, inverse }, x, y) {
  const px = x - ax, py = y - ay;
  const t = Math.min(Math.max((px * dx + py * dy) * inverse, 0), 1);
  return Math.hypot(px - t * dx, py - t * dy);
}

// `limit`, less the further it is beyond the hard part: a smoothstep.
function falling(limit, beyond, fade) {
  const share = 1 - beyond / fade;
  return (limit * share * share * (3 - 2 * share) + 0.5) | 0;
}

// The most that each place of a rectangle may get, by how far it can be reached without crossing an edge.
class Limits {
  constructor(matte, a, b, most, left, top, right, bottom) {
    const { columns, rows, step, reach } = reachable(matte, a, b, left, top, right, bottom);
    Object.assign(this, { top, columns, rows, step, values: reach.map((share) => Math.round(most * share / 255)) });
    // For whole blocks, which reach beyond the rectangle.
    this.left = left - BLOCK;
    this.columnOf = Uint16Array.from({ length: right - left + 2 * BLOCK }, (_, x) => this.#cell(x - BLOCK, columns));
  }

  #cell(beyond, count) { return Math.min(Math.max(Math.floor((beyond + 0.5) / this.step), 0), count - 1); }

  // Where the row of a pixel's row begins.
  row(y) { return this.#cell(y - this.top, this.rows) * this.columns; }

  // The largest one in a block.
  most(x0, y0, x1, y1) {
    const first = this.columnOf[x0 - this.left], last = this.columnOf[x1 - 1 - this.left], end = this.row(y1 - 1);
    let found = 0;
    for (let cells = this.row(y0); cells <= end; cells += this.columns) for (let u = first; u <= last; u++) if (this.values[cells + u] > found) found = this.values[cells + u];
    return found;
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
