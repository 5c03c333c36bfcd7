// Shows a matte on a canvas: zoom from the whole photo to 400 %, panning, and what is drawn over it.
import { Matte } from "./matte.js";

const MOST = 4; // screen pixels for a pixel of the photo

export class View {
  constructor(canvas, matte) {
    Object.assign(this, { canvas, matte, context: canvas.getContext("2d"), scale: 1, left: 0, top: 0, ghost: 0.3, mark: null, cursor: null, frames: [], spent: 0 });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#resize(true);
  }

  get fitting() { return Math.min(this.canvas.width / this.matte.width, this.canvas.height / this.matte.height); }

  #resize(fit = this.fitted) {
    const { clientWidth, clientHeight } = this.canvas;
    Object.assign(this.canvas, { width: Math.max(1, Math.round(clientWidth * devicePixelRatio)), height: Math.max(1, Math.round(clientHeight * devicePixelRatio)) });
    if (fit) this.fit();
    else this.draw();
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitting;
    this.left = (this.canvas.width - this.matte.width * this.scale) / 2;
    this.top = (this.canvas.height - this.matte.height * this.scale) / 2;
    this.draw();
  }

  // The place on the photo under a pointer.
  toPhoto(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: ((event.clientX - left) * devicePixelRatio - this.left) / this.scale, y: ((event.clientY - top) * devicePixelRatio - this.top) / this.scale };
  }

  zoomTo(scale, at = null) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const x = (at ? at.clientX - left : width / 2) * devicePixelRatio, y = (at ? at.clientY - top : height / 2) * devicePixelRatio;
    const next = Math.min(Math.max(scale, this.fitting * 0.5), MOST);
    this.left = x - (x - this.left) * next / this.scale;
    this.top = y - (y - this.top) * next / this.scale;
    this.scale = next;
    this.fitted = false;
    this.draw();
  }

  pan(dx, dy) {
    this.left += dx * devicePixelRatio;
    this.top += dy * devicePixelRatio;
    this.fitted = false;
    this.draw();
  }

  // Draws with the next frame: all, or one rectangle of the photo.
  draw(rectangle = null) {
    this.due = rectangle && this.due !== "all" ? joined(this.due, rectangle) : "all";
    this.frame ??= requestAnimationFrame(() => { this.frame = null; const due = this.due; this.due = null; this.#draw(due); });
  }

  #draw(due) {
    const { context, matte, scale, left, top, canvas } = this;
    const began = performance.now();
    const level = Matte.levelFor(scale), size = 2 ** level;
    matte.freshen(level);
    context.save();
    context.imageSmoothingEnabled = scale < 2;
    let [x0, y0, x1, y1] = [0, 0, canvas.width, canvas.height];
    if (due !== "all") {
      [x0, y0] = [Math.floor(due[0] * scale + left) - 2, Math.floor(due[1] * scale + top) - 2];
      [x1, y1] = [Math.ceil(due[2] * scale + left) + 2, Math.ceil(due[3] * scale + top) + 2];
      context.beginPath();
      context.rect(x0, y0, x1 - x0, y1 - y0);
      context.clip();
    }
    context.clearRect(x0, y0, x1 - x0, y1 - y0);
    const from = [Math.max(0, (x0 - left) / scale), Math.max(0, (y0 - top) / scale), Math.min(matte.width, (x1 - left) / scale), Math.min(matte.height, (y1 - top) / scale)];
    if (from[0] < from[2] && from[1] < from[3]) {
      if (this.ghost) {
        const [a, b] = [Math.floor(from[0]), Math.floor(from[1])], [c, d] = [Math.min(matte.width, Math.ceil(from[2])), Math.min(matte.height, Math.ceil(from[3]))];
        context.globalAlpha = this.ghost;
        context.drawImage(matte.photoAt(level), a / size, b / size, (c - a) / size, (d - b) / size, left + a * scale, top + b * scale, (c - a) * scale, (d - b) * scale);
        context.globalAlpha = 1;
      }
      for (const index of matte.touched(...from)) {
        const place = matte.place(index);
        // Whole pixels of the screen, so that no seam shows between tiles.
        const x = Math.round(left + place.left * scale), y = Math.round(top + place.top * scale);
        const right = Math.round(left + (place.left + place.width) * scale), bottom = Math.round(top + (place.top + place.height) * scale);
        context.drawImage(matte.tile(index, level).canvas, 0, 0, place.width / size, place.height / size, x, y, right - x, bottom - y);
      }
    }
    if (this.mark) this.mark(context, (x, y) => [left + x * scale, top + y * scale]);
    context.restore();
    this.frames.push(this.spent + performance.now() - began);
    this.spent = 0;
    if (this.frames.length > 1000) this.frames.shift();
  }
}

function joined(one, other) {
  if (!one) return other;
  return [Math.min(one[0], other[0]), Math.min(one[1], other[1]), Math.max(one[2], other[2]), Math.max(one[3], other[3])];
}
