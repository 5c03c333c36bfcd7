// Undo and redo without limit, and the copy in this browser that a reload reads again.
import { Store } from "../database.js";
import { squeezed, unsqueezed } from "./matte.js";

export class History {
  // `changed` is called after each step. The strokes stay in the store until they are saved.
  constructor(matte, database, itemId, changed) {
    Object.assign(this, { matte, store: new Store(database, "strokes"), itemId, changed, steps: [], at: 0, work: Promise.resolve() });
  }

  get dirty() { return this.at > 0; }

  // Strokes that were not saved: laid over again if the matte is still the one they were made on.
  // Returns "none", "kept" or "conflict"; then `takeMine` or `forget` decides.
  async open(etag) {
    this.etag = etag;
    const known = await this.store.get(this.itemId);
    if (!known || !known.at) { await this.forget(); return "none"; }
    if (known.width !== this.matte.width || known.height !== this.matte.height) { await this.forget(); return "none"; }
    this.stored = known;
    this.steps = [];
    for (let number = 0; number < known.count; number++) {
      const step = await this.store.get(`${this.itemId}/${number}`);
      if (!step) break;
      this.steps.push(step);
    }
    if (known.etag !== etag) return "conflict";
    await this.#replay(Math.min(known.at, this.steps.length));
    this.started = true;
    return "kept";
  }

  // The strokes of last time win over the matte that was stored since.
  async takeMine() {
    this.matte.alpha.set(await unsqueezed(this.stored.base));
    await this.#replay(Math.min(this.stored.at, this.steps.length));
    this.matte.forgetTiles();
    this.started = true;
    await this.#keepHead(this.stored.base);
    this.changed();
  }

  async #replay(count) {
    for (this.at = 0; this.at < count; this.at++) await this.#apply(this.steps[this.at]);
  }

  // A stroke has ended. `tiles`: [index, exclusive-or] each.
  add(tiles) {
    if (!tiles.length) return this.work;
    return this.#inTurn(async () => {
      if (!this.started) {
        // The matte as it was before the first stroke, for the case that another one is stored meanwhile.
        this.started = true;
        const before = this.matte.alpha.slice();
        for (const [index, bytes] of tiles) this.matte.flip(index, bytes, before);
        this.base = await squeezed(before);
      }
      const step = await Promise.all(tiles.map(async ([index, bytes]) => [index, await squeezed(bytes)]));
      this.steps.length = this.at;
      this.steps.push(step);
      this.at = this.steps.length;
      await this.store.put(`${this.itemId}/${this.at - 1}`, step);
      await this.#keepHead();
      this.changed();
    });
  }

  undo() { return this.#move(-1); }
  redo() { return this.#move(1); }

  #move(by) {
    return this.#inTurn(async () => {
      const step = this.steps[by < 0 ? this.at - 1 : this.at];
      if (!step) return;
      await this.#apply(step);
      this.at += by;
      await this.#keepHead();
      this.changed();
    });
  }

  async #apply(step) {
    for (const [index, bytes] of step) this.matte.flip(index, await unsqueezed(bytes));
  }

  async #keepHead(base = this.base ?? this.stored?.base) {
    const { width, height } = this.matte;
    await this.store.put(this.itemId, { etag: this.etag, width, height, base, count: this.steps.length, at: this.at });
  }

  async forget() {
    await this.store.delete(this.itemId);
    for (const key of await this.store.keys()) if (String(key).startsWith(`${this.itemId}/`)) await this.store.delete(key);
    Object.assign(this, { steps: [], at: 0, started: false, base: null, stored: null });
  }

  // One after the other, in the order of the person's hand.
  #inTurn(job) {
    this.work = this.work.then(job);
    return this.work;
  }
}
