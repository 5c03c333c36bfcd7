// The images of a job that pass a filter. Only those that are looked at are asked for, in blocks from
// anywhere in the list, so the end of 100,000 images is as near as their beginning.
import { call } from "./api.js";

const BLOCK = 200; // places in the source
const AT_ONCE = 3;

// Most images of the job pass the filter: each block of the source is asked for by itself. How many
// of it pass is guessed until it is there.
export class Blocks {
  constructor(jobId, query, { total, density, changed, failed }) {
    Object.assign(this, { jobId, query, changed, failed, loading: new Set(), wanted: [] });
    this.guess = Math.max(1, Math.round(BLOCK * density));
    this.density = density;
    this.blocks = [];
    this.grow(total);
  }

  grow(total) {
    while (this.blocks.length < Math.ceil(total / BLOCK)) this.blocks.push({ items: null, size: this.guess });
    for (const [k, one] of this.blocks.entries()) one.size = Math.min(this.guess, Math.max(1, Math.round((total - k * BLOCK) * this.density)));
    this.#count();
  }

  #count() {
    this.starts = [0];
    for (const one of this.blocks) this.starts.push(this.starts.at(-1) + (one.items?.length ?? one.size));
    this.count = this.starts.at(-1);
  }

  get ended() { return true; }

  #blockOf(index) {
    let low = 0, high = this.blocks.length;
    while (high - low > 1) { const middle = (low + high) >> 1; this.starts[middle] <= index ? low = middle : high = middle; }
    return low;
  }

  at(index) {
    const k = this.#blockOf(index);
    return this.blocks[k]?.items?.[index - this.starts[k]] ?? null;
  }

  *loaded() { for (const one of this.blocks) if (one.items) yield* one.items; }

  // What is looked at; what was wanted before and is not here yet is left.
  want(first, last) {
    this.wanted = [];
    if (first >= last) return;
    for (let k = this.#blockOf(first); k <= this.#blockOf(last - 1); k++) if (!this.blocks[k].items && !this.loading.has(k)) this.wanted.push(k);
    this.#go();
  }

  #go() {
    while (this.loading.size < AT_ONCE && this.wanted.length) this.#load(this.wanted.shift());
  }

  async #load(k) {
    this.loading.add(k);
    try {
      await this.#ask(k);
      this.changed();
    } catch (error) { this.wanted = []; this.failed(error); } finally { this.loading.delete(k); }
    this.#go();
  }

  async #ask(k) {
    const { items, next_cursor: more } = await ask(this.jobId, { ...this.query, after: k * BLOCK, limit: BLOCK });
    this.blocks[k].items = items.filter((item) => item.position <= (k + 1) * BLOCK);
    // Places that no image has (a list named a photo twice) put the last images further back.
    if (k === this.blocks.length - 1 && (more || items.at(-1)?.position > (k + 1) * BLOCK)) this.blocks.push({ items: null, size: this.guess });
    this.#count();
  }

  // Ask again for blocks in view whose images may have changed.
  async refresh(shown, total) {
    const tail = this.blocks.length - 1;
    this.grow(total);
    for (const [k, { items }] of this.blocks.entries()) {
      if (!items || this.loading.has(k)) continue;
      const grows = k === tail && items.length < BLOCK;
      if (grows || items.some((item) => isOpen(item) && shown.has(item.id))) await this.#ask(k);
    }
  }

  put(item) {
    for (const { items } of this.blocks) replace(items, item);
  }

  async all(most) {
    for (const k of this.blocks.keys()) {
      if (this.starts[k] >= most) break;
      if (!this.blocks[k].items) await this.#ask(k);
    }
    this.changed();
    return [...this.loaded()].slice(0, most);
  }
}

// Few images pass, or nobody knows how many: the list is read on from its beginning.
export class Sequence {
  constructor(jobId, query, { size, changed, failed }) {
    Object.assign(this, { jobId, query, size, changed, failed, pages: [], shown: [], next: null, ended: false, run: null });
  }

  get count() { return this.shown.length; }
  at(index) { return this.shown[index] ?? null; }
  loaded() { return this.shown; }

  want(first, last) {
    if (!this.ended && last >= this.shown.length - 60) this.more();
  }

  more() { return this.run ??= this.#more().finally(() => { this.run = null; }).then(this.changed, (error) => { this.ended = true; this.failed(error); this.changed(); }); }

  async #more() {
    const page = await this.#ask(this.next);
    this.pages.push({ cursor: this.next, items: page.items });
    this.shown.push(...page.items);
    this.#end(page);
  }

  #ask(cursor) { return ask(this.jobId, { limit: this.size, ...this.query, ...(cursor ? { cursor } : {}) }); }

  #end(page) {
    this.next = page.next_cursor;
    this.ended = page.next_cursor === null;
  }

  async refresh(shown) {
    for (const page of this.pages) {
      const last = page === this.pages.at(-1) && this.ended;
      if (!last && !page.items.some((item) => isOpen(item) && shown.has(item.id))) continue;
      const fresh = await this.#ask(page.cursor);
      page.items = fresh.items;
      if (page === this.pages.at(-1)) this.#end(fresh);
    }
    this.shown = this.pages.flatMap((page) => page.items);
  }

  put(item) {
    for (const { items } of this.pages) replace(items, item);
    replace(this.shown, item);
  }

  async all(most) {
    while (!this.ended && this.shown.length < most) await this.more();
    return this.shown.slice(0, most);
  }
}

const ask = (jobId, query) => call("GET", `/v1/jobs/${jobId}/items?${new URLSearchParams(query)}`);

const isOpen = (item) => item.redo?.status === "waiting" || ["queued", "running"].includes(item.status);

function replace(items, item) {
  const at = items?.findIndex((one) => one.id === item.id) ?? -1;
  if (at >= 0) items[at] = item;
}
