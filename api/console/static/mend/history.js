// Undo and redo without limit, and the copy in this browser that a reload reads again.
import { Store } from "../database.js";
import { squeezed, unsqueezed } from "./matte.js";

export class History {
  // `changed` is called after each step, `unkept` when this browser can't keep one. The strokes stay in
  // the store until they are saved. Another tab may have the same image: each page's strokes have keys
  // of their own, and the head under the image's key names the page that painted last.
  constructor(matte, database, itemId, { changed, unkept }) {
    const page = crypto.randomUUID?.() ?? String(Math.random());
    Object.assign(this, { matte, store: new Store(database, "strokes"), itemId, page, changed, unkept, kept: true, steps: [], at: 0, work: Promise.resolve() });
  }

  get dirty() { return this.at > 0; }

  #key(page, number) { return `${this.itemId}/${page}/${number}`; }

  // Strokes that were not saved: laid over again if the matte is still the one they were made on.
  // Returns "none", "kept" or "conflict"; then `takeMine` or `forget` decides.
  async open(etag) {
    this.etag = etag;
    const known = await this.store.get(this.itemId);
    this.stored = known;
    if (!known?.at || known.width !== this.matte.width || known.height !== this.matte.height) { await this.forget(); return "none"; }
    this.steps = [];
    for (let number = 0; number < known.count; number++) {
      const step = await this.store.get(this.#key(known.page, number));
      if (!step) break;
      this.steps.push(step);
    }
    if (known.etag !== etag) return "conflict";
    await this.#replay(Math.min(known.at, this.steps.length));
    this.base = known.base;
    return "kept";
  }

  // The strokes of last time win over the matte that was stored since.
  async takeMine() {
    this.matte.alpha.set(await unsqueezed(this.stored.base));
    await this.#replay(Math.min(this.stored.at, this.steps.length));
    this.matte.forgetTiles();
    this.base = this.stored.base;
    await this.#keep();
    this.changed();
  }

  async #replay(count) {
    for (this.at = 0; this.at < count; this.at++) await this.#apply(this.steps[this.at]);
  }

  // A stroke has ended. `tiles`: [index, exclusive-or] each.
  add(tiles) {
    if (!tiles.length) return this.work;
    return this.#inTurn(async () => {
      if (!this.base) {
        // The matte as it was before the first stroke, for the case that another one is stored meanwhile.
        const before = this.matte.alpha.slice();
        for (const [index, bytes] of tiles) this.matte.flip(index, bytes, before);
        this.base = await squeezed(before);
      }
      const step = await Promise.all(tiles.map(async ([index, bytes]) => [index, await squeezed(bytes)]));
      this.steps.length = this.at;
      this.steps.push(step);
      this.at = this.steps.length;
      await this.#keep(this.at - 1);
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
      await this.#keep(this.steps.length);
      this.changed();
    });
  }

  async #apply(step) {
    for (const [index, bytes] of step) this.matte.flip(index, await unsqueezed(bytes));
  }

  // Stores the strokes from `first` on, and the head; all strokes, if the head is another page's: that
  // of another tab, or of this one before it was loaded again.
  async #keep(first = 0) {
    const { page, etag, base, at, matte: { width, height } } = this;
    try {
      const head = await this.store.get(this.itemId);
      for (let number = head?.page === page ? first : 0; number < this.steps.length; number++) await this.store.put(this.#key(page, number), this.steps[number]);
      await this.store.put(this.itemId, { page, etag, width, height, base, count: this.steps.length, at });
      this.kept = true;
    } catch (error) { // no room in this browser: the strokes live in this page alone
      if (this.kept) this.unkept(error);
      this.kept = false;
    }
  }

  // The strokes that another tab painted meanwhile stay.
  async forget() {
    const pages = [this.page, this.stored?.page], { itemId } = this;
    Object.assign(this, { steps: [], at: 0, base: null, stored: null, kept: true });
    try {
      const head = await this.store.get(itemId), other = head && !pages.includes(head.page);
      const stays = (key) => other && (key === itemId || key.startsWith(this.#key(head.page, "")));
      for (const key of await this.store.keys()) {
        if ((key === itemId || key.startsWith(`${itemId}/`)) && !stays(key)) await this.store.delete(key);
      }
    } catch { /* the page asks about what is left when it opens the image again */ }
  }

  // One after the other, in the order of the person's hand; one that fails holds up no other.
  #inTurn(job) {
    const done = this.work.then(job);
    this.work = done.catch(() => {});
    return done;
  }
}
