// What is meant: a box, or points on the subject and beside it. In shares of the photo.
export class Subject {
  constructor({ width, height }, changed) { Object.assign(this, { width, height, changed, box: null, points: [], pulling: null }); }

  // The option `subject`; null if nothing is said.
  get value() {
    if (this.points.length) return { points: this.points };
    return this.box ? { box: this.box } : null;
  }

  #share({ x, y }) {
    const cut = (value) => Math.round(Math.min(Math.max(value, 0), 1) * 1e5) / 1e5;
    return [cut(x / this.width), cut(y / this.height)];
  }

  press(tool, at, outside) {
    if (tool === "box") { this.pulling = [this.#share(at), this.#share(at)]; return; }
    this.box = null;
    this.points.push([...this.#share(at), outside ? 0 : 1]);
    this.changed();
  }

  pull(at) { this.pulling[1] = this.#share(at); }

  release() {
    const [[a, b], [c, d]] = this.pulling;
    this.pulling = null;
    const box = [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
    if (box[2] - box[0] > 0.005 && box[3] - box[1] > 0.005) [this.box, this.points] = [box, []];
    this.changed();
  }

  cancel() { this.pulling = null; }

  forget() {
    [this.box, this.points] = [null, []];
    this.changed();
  }

  draw(context, place) {
    const shown = this.pulling ? [...this.pulling[0], ...this.pulling[1]] : this.box;
    if (shown) {
      const [x, y] = place(shown[0] * this.width, shown[1] * this.height), [right, bottom] = place(shown[2] * this.width, shown[3] * this.height);
      for (const [style, dash] of [["#000", []], ["#fff", [6, 6]]]) {
        context.setLineDash(dash);
        Object.assign(context, { strokeStyle: style, lineWidth: 2 });
        context.strokeRect(x, y, right - x, bottom - y);
      }
      context.setLineDash([]);
    }
    for (const [u, v, inside] of this.points) {
      context.beginPath();
      context.arc(...place(u * this.width, v * this.height), 7, 0, 2 * Math.PI);
      Object.assign(context, { fillStyle: inside ? "#1db954" : "#e02b20", strokeStyle: "#fff", lineWidth: 2 });
      context.fill();
      context.stroke();
    }
  }
}
