// A matte of a photo in tiles, with the cut-out of each tile; only touched pixels are made again.
import { crc32 } from "../zip.js";

export const TILE_PX = 512;

export class Matte {
  // `photo` and `matte`: ImageBitmap of one size.
  constructor(photo, matte) {
    this.photo = photo;
    [this.width, this.height] = [photo.width, photo.height];
    this.columns = Math.ceil(this.width / TILE_PX);
    this.rows = Math.ceil(this.height / TILE_PX);
    this.alpha = new Uint8Array(this.width * this.height);
    this.tiles = new Array(this.columns * this.rows);
    this.stale = new Map(); // the rectangles of tiles whose pixels changed since they were shown
    this.read(matte);
  }

  // The alpha of a picture, which may have another size than the photo when it comes from a preview.
  read(matte) {
    const canvas = new OffscreenCanvas(TILE_PX, TILE_PX);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let index = 0; index < this.tiles.length; index++) {
      const { left, top, width, height } = this.place(index);
      context.drawImage(matte, left, top, width, height, 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, height);
      for (let y = 0; y < height; y++) {
        const row = (top + y) * this.width + left;
        for (let x = 0; x < width; x++) this.alpha[row + x] = data[4 * (y * width + x)];
      }
    }
    this.tiles.fill(undefined);
    this.stale.clear();
  }

  place(index) {
    const left = (index % this.columns) * TILE_PX, top = Math.floor(index / this.columns) * TILE_PX;
    return { left, top, width: Math.min(TILE_PX, this.width - left), height: Math.min(TILE_PX, this.height - top) };
  }

  // The cut-out of a tile as a canvas; made when it is looked at first.
  tile(index) {
    const known = this.tiles[index];
    if (known) return known;
    const { left, top, width, height } = this.place(index);
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.photo, left, top, width, height, 0, 0, width, height);
    const made = { canvas, context, pixels: context.getImageData(0, 0, width, height) };
    this.tiles[index] = made;
    this.#paint(index, made, left, top, width, height);
    return made;
  }

  // The photo's colours at side × side places, `step` pixels apart: [side, side, 3], RGB.
  sample(left, top, step, side) {
    const found = new Uint8Array(3 * side * side);
    const within = (value, size) => Math.min(Math.max(Math.floor(value), 0), size - 1);
    for (let v = 0, to = 0; v < side; v++) {
      const y = within(top + (v + 0.5) * step, this.height), row = Math.floor(y / TILE_PX);
      let column = -1, pixels = null;
      for (let u = 0; u < side; u++, to += 3) {
        const x = within(left + (u + 0.5) * step, this.width);
        if (!pixels || column !== Math.floor(x / TILE_PX)) {
          column = Math.floor(x / TILE_PX);
          ({ pixels } = this.tile(row * this.columns + column));
        }
        const at = 4 * ((y - row * TILE_PX) * pixels.width + x - column * TILE_PX);
        found[to] = pixels.data[at];
        found[to + 1] = pixels.data[at + 1];
        found[to + 2] = pixels.data[at + 2];
      }
    }
    return found;
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

  // Brings the tiles up to date before they are drawn.
  freshen() {
    for (const [index, [left, top, right, bottom]] of this.stale) {
      if (this.tiles[index]) this.#paint(index, this.tiles[index], left, top, right - left, bottom - top);
    }
    this.stale.clear();
  }

  #paint(index, { context, pixels }, left, top, width, height) {
    const place = this.place(index);
    for (let y = top; y < top + height; y++) {
      let to = 4 * ((y - place.top) * pixels.width + (left - place.left)) + 3;
      let from = y * this.width + left;
      for (let x = 0; x < width; x++, to += 4) pixels.data[to] = this.alpha[from++];
    }
    context.putImageData(pixels, 0, 0, left - place.left, top - place.top, width, height);
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
