// A matte of a photo in tiles, with the cut-out of each tile; only touched pixels are made again.
import { crc32 } from "../zip.js";

export const TILE_PX = 512;
const LEVELS = 4; // of size, each half of the one before: what is shown small is also made small

export class Matte {
  // `photo` and `matte`: ImageBitmap of one size.
  constructor(photo, matte) {
    this.photos = [photo];
    [this.width, this.height] = [photo.width, photo.height];
    this.columns = Math.ceil(this.width / TILE_PX);
    this.rows = Math.ceil(this.height / TILE_PX);
    this.alpha = new Uint8Array(this.width * this.height);
    this.scratch = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    this.read(matte);
  }

  // The alpha of a picture, which may have another size than the photo when it comes from a preview.
  read(matte) {
    this.forgetTiles();
    const canvas = new OffscreenCanvas(TILE_PX, TILE_PX);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let index = 0; index < this.columns * this.rows; index++) {
      const { left, top, width, height } = this.place(index);
      context.drawImage(matte, left, top, width, height, 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, height);
      for (let y = 0; y < height; y++) {
        const row = (top + y) * this.width + left;
        for (let x = 0; x < width; x++) this.alpha[row + x] = data[4 * (y * width + x)];
      }
    }
  }

  // The level whose pixels are at least as fine as those of a screen at this scale.
  static levelFor(scale) { return Math.min(Math.max(Math.floor(Math.log2(1 / scale)), 0), LEVELS - 1); }

  // The photo at a level: a pixel is 2 ** level pixels of the photo.
  photoAt(level) {
    if (!this.photos[level]) {
      const above = this.photoAt(level - 1);
      this.photos[level] = new OffscreenCanvas(Math.ceil(above.width / 2), Math.ceil(above.height / 2));
      this.photos[level].getContext("2d", { willReadFrequently: true }).drawImage(above, 0, 0, above.width / 2, above.height / 2);
    }
    return this.photos[level];
  }

  // All alpha changed: every tile is made again.
  forgetTiles() {
    this.tiles = Array.from({ length: LEVELS }, () => []);
    this.stale = new Map(); // the rectangles of tiles whose pixels changed since they were shown
  }

  place(index) {
    const left = (index % this.columns) * TILE_PX, top = Math.floor(index / this.columns) * TILE_PX;
    return { left, top, width: Math.min(TILE_PX, this.width - left), height: Math.min(TILE_PX, this.height - top) };
  }

  // The cut-out of a tile as a canvas; made when it is looked at first.
  tile(index, level) {
    const known = this.tiles[level][index];
    if (known) return known;
    const { left, top, width, height } = this.place(index), size = 2 ** level;
    const canvas = new OffscreenCanvas(Math.ceil(width / size), Math.ceil(height / size));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const [w, h] = [width / size, height / size];
    context.drawImage(this.photoAt(level), left / size, top / size, w, h, 0, 0, w, h);
    const made = { canvas, context, pixels: context.getImageData(0, 0, canvas.width, canvas.height) };
    this.tiles[level][index] = made;
    this.#paint(index, level, made, left, top, left + width, top + height);
    return made;
  }

  // The photo's colours in a rectangle, at most `most` on the longer side: { columns, rows, step, data },
  // RGBA, `step` pixels of the photo apart.
  sample(left, top, right, bottom, most) {
    const [width, height] = [right - left, bottom - top], step = Math.max(1, Math.max(width, height) / most);
    const columns = Math.max(1, Math.ceil(width / step)), rows = Math.max(1, Math.ceil(height / step));
    const { scratch } = this, { canvas } = scratch;
    if (canvas.width < columns || canvas.height < rows) Object.assign(canvas, { width: Math.max(canvas.width, columns), height: Math.max(canvas.height, rows) });
    const level = Matte.levelFor(1 / step), size = 2 ** level;
    scratch.clearRect(0, 0, columns, rows);
    scratch.drawImage(this.photoAt(level), left / size, top / size, width / size, height / size, 0, 0, width / step, height / step);
    return { columns, rows, step, data: scratch.getImageData(0, 0, columns, rows).data };
  }

  // The indices of the tiles that a rectangle of the photo touches.
  touched(left, top, right, bottom) {
    const found = [];
    for (let row = Math.max(0, Math.floor(top / TILE_PX)); row <= Math.min(this.rows - 1, Math.floor((bottom - 1) / TILE_PX)); row++) {
      for (let column = Math.max(0, Math.floor(left / TILE_PX)); column <= Math.min(this.columns - 1, Math.floor((right - 1) / TILE_PX)); column++) found.push(row * this.columns + column);
    }
    return found;
  }

  // Takes a tile's difference (exclusive-or) in, or back out.
  flip(index, bytes, alpha = this.alpha) {
    const { left, top, width, height } = this.place(index);
    for (let y = 0; y < height; y++) {
      const row = (top + y) * this.width + left;
      for (let x = 0; x < width; x++) alpha[row + x] ^= bytes[y * width + x];
    }
    this.touch(index, left, top, left + width, top + height);
  }

  // A rectangle of a tile changed; the next frame shows it.
  touch(index, left, top, right, bottom) {
    const known = this.stale.get(index);
    if (!known) { this.stale.set(index, [left, top, right, bottom]); return; }
    known[0] = Math.min(known[0], left);
    known[1] = Math.min(known[1], top);
    known[2] = Math.max(known[2], right);
    known[3] = Math.max(known[3], bottom);
  }

  // Brings the tiles of a level up to date before they are drawn; those of others are made again.
  freshen(level) {
    for (const [index, rectangle] of this.stale) {
      for (const [other, tiles] of this.tiles.entries()) {
        if (other !== level) delete tiles[index];
        else if (tiles[index]) this.#paint(index, level, tiles[index], ...rectangle);
      }
    }
    this.stale.clear();
  }

  #paint(index, level, { context, pixels }, left, top, right, bottom) {
    const place = this.place(index), size = 2 ** level, middle = size >> 1;
    const x0 = Math.floor((left - place.left) / size), y0 = Math.floor((top - place.top) / size);
    const x1 = Math.ceil((right - place.left) / size), y1 = Math.ceil((bottom - place.top) / size);
    const last = this.width - 1;
    for (let y = y0; y < y1; y++) {
      const row = Math.min(place.top + y * size + middle, this.height - 1) * this.width;
      let to = 4 * (y * pixels.width + x0) + 3, from = place.left + x0 * size + middle;
      for (let x = x0; x < x1; x++, to += 4, from += size) pixels.data[to] = this.alpha[row + (from > last ? last : from)];
    }
    context.putImageData(pixels, 0, 0, x0, y0, x1 - x0, y1 - y0);
  }

  // An 8-bit grey PNG (PNG specification, third edition: 5.2, 11.2).
  async png() {
    const rows = new Uint8Array((this.width + 1) * this.height);
    for (let y = 0; y < this.height; y++) rows.set(this.alpha.subarray(y * this.width, (y + 1) * this.width), y * (this.width + 1) + 1);
    const head = new Uint8Array(13);
    const view = new DataView(head.buffer);
    view.setUint32(0, this.width);
    view.setUint32(4, this.height);
    head[8] = 8; // bits; colour type 0 is grey
    return new Blob([
      Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
      chunk("IHDR", head), chunk("IDAT", await squeezed(rows)), chunk("IEND", new Uint8Array()),
    ], { type: "image/png" });
  }
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

// zlib's format; the browser works beside the page.
export async function squeezed(bytes) {
  return through(bytes, new CompressionStream("deflate"));
}

export async function unsqueezed(bytes) {
  return through(bytes, new DecompressionStream("deflate"));
}

async function through(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}
