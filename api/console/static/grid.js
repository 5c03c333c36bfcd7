// A grid of images of which only those in view are elements: it stays quick with 100,000.
import { call } from "./api.js";
import { make } from "./elements.js";
import { complain } from "./notices.js";
import { result, thumbnail } from "./pictures.js";
import { t } from "./texts.js";

const TILE_PX = 190;
const GAP_PX = 10;
const PAGE_IMAGES = 200;
const ROWS_BEYOND = 3;

export class Grid {
  constructor(element, state, jobId, { onChoice }) {
    Object.assign(this, { element, state, jobId, onChoice });
    this.chosen = new Map();
    this.tiles = new Map();
    this.reset({});
    const draw = () => this.draw();
    addEventListener("scroll", draw, { passive: true });
    new ResizeObserver(draw).observe(element);
  }

  // Start again with a filter: `query` goes to the API, `keeps` looks at each image here.
  reset({ query = {}, keeps = () => true }) {
    Object.assign(this, { query, keeps, pages: [], shown: [], next: null, ended: false, run: (this.run ?? 0) + 1 });
    this.loading = false;
    scrollTo({ top: Math.min(scrollY, this.element.offsetTop) });
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.draw();
  }

  async more() {
    if (this.loading || this.ended) return;
    this.loading = true;
    const run = this.run;
    this.state.textContent = t("grid.loading");
    try {
      const page = await this.fetch(this.next);
      if (run !== this.run) return;
      this.pages.push({ cursor: this.next, items: page.items });
      this.shown.push(...page.items.filter(this.keeps));
      this.next = page.next_cursor;
      this.ended = page.next_cursor === null;
    } catch (error) { this.ended = true; complain(error); } finally { if (run === this.run) this.loading = false; }
    this.draw();
  }

  fetch(cursor) {
    const asked = new URLSearchParams({ limit: PAGE_IMAGES, ...this.query, ...(cursor ? { cursor } : {}) });
    return call("GET", `/v1/jobs/${this.jobId}/items?${asked}`);
  }

  // Ask again for the pages in view whose images are not settled, and for what was added.
  async refresh() {
    const run = this.run;
    const visible = new Set([...this.tiles.keys()]);
    try {
      for (const page of this.pages) {
        const open = page.items.some((item) => item.redo?.status === "waiting" || (visible.has(item.id) && ["queued", "running"].includes(item.status)));
        if (!open) continue;
        const fresh = await this.fetch(page.cursor);
        if (run !== this.run) return;
        page.items = fresh.items;
        if (page === this.pages.at(-1)) this.next = fresh.next_cursor;
      }
      this.shown = this.pages.flatMap((page) => page.items.filter(this.keeps));
      if (this.ended && this.pages.length) {
        const last = this.pages.at(-1);
        const fresh = await this.fetch(last.cursor);
        if (run !== this.run) return;
        last.items = fresh.items;
        this.next = fresh.next_cursor;
        this.ended = fresh.next_cursor === null;
        this.shown = this.pages.flatMap((page) => page.items.filter(this.keeps));
      }
    } catch (error) { complain(error); }
    this.draw();
  }

  put(item) {
    for (const page of this.pages) {
      const at = page.items.findIndex((one) => one.id === item.id);
      if (at >= 0) page.items[at] = item;
    }
    const at = this.shown.findIndex((one) => one.id === item.id);
    if (at >= 0) this.shown[at] = item;
    this.draw();
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const columns = Math.max(2, Math.floor((width + GAP_PX) / (TILE_PX + GAP_PX)));
    const side = (width - GAP_PX * (columns - 1)) / columns;
    const pitch = side + 34 + GAP_PX;
    const rows = Math.ceil(this.shown.length / columns);
    this.element.style.height = `${rows * pitch}px`;
    const top = -this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / pitch) - ROWS_BEYOND);
    const last = Math.min(rows, Math.ceil((top + innerHeight) / pitch) + ROWS_BEYOND);
    const wanted = new Map();
    for (let index = first * columns; index < Math.min(last * columns, this.shown.length); index++) {
      wanted.set(this.shown[index].id, index);
    }
    for (const [id, tile] of this.tiles) {
      if (!wanted.has(id)) { tile.remove(); this.tiles.delete(id); }
    }
    let before = null;
    for (const [id, index] of wanted) {
      const item = this.shown[index];
      let tile = this.tiles.get(id);
      if (!tile || tile.item !== item) {
        const fresh = this.tile(item);
        fresh.item = item;
        if (tile) tile.replaceWith(fresh);
        tile = fresh;
        this.tiles.set(id, tile);
      }
      // In the order of the list, for who goes through them by keyboard.
      if (!tile.isConnected || tile.previousElementSibling !== before) {
        before ? before.after(tile) : this.element.prepend(tile);
      }
      before = tile;
      Object.assign(tile.style, {
        width: `${side}px`, height: `${side + 34}px`,
        left: `${(index % columns) * (side + GAP_PX)}px`, top: `${Math.floor(index / columns) * pitch}px`,
      });
    }
    if (!this.ended && last >= rows - ROWS_BEYOND) this.more();
    if (!this.loading) this.state.textContent = this.shown.length || !this.ended ? "" : `${t("grid.empty")}. ${t("grid.empty_do")}`;
  }

  tile(item) {
    const pick = make("input", { type: "checkbox", "aria-label": `${t("grid.select")} ${item.name}`, checked: this.chosen.has(item.id),
      onchange: () => { pick.checked ? this.chosen.set(item.id, item) : this.chosen.delete(item.id); this.onChoice(this.chosen); } });
    const marks = [
      item.redo?.status === "waiting" && make("span", { class: "mark" }, t("grid.redoing")),
      item.redo?.status === "failed" && make("span", { class: "mark reject", title: item.redo.error?.detail }, t("grid.redo_failed")),
      item.verdict && make("span", { class: `mark ${item.verdict}` }, t(`grid.${item.verdict}ed`)),
      !item.verdict && item.review_reasons.slice(0, 2).map((one) => make("span", { class: "mark", title: t(`reason.${one}`) }, one)),
      item.outputs.some((one) => one.unmet.length) && make("span", { class: "mark rule", title: item.outputs.flatMap((one) => one.unmet).join("\n") }, t("grid.rule")),
    ];
    const done = item.status === "succeeded";
    const shot = done
      ? make("a", { class: "shot checks", href: `/console/jobs/${this.jobId}/review?at=${item.id}`, "aria-label": t("grid.open", { name: item.name }) }, picture(item))
      : make("div", { class: "shot" }, item.error
        ? make("span", { class: "why" }, item.error.detail)
        : make("span", { class: `state ${item.status}` }, t(`status.${item.status}`)));
    return make("div", { class: "tile", role: "listitem" },
      done && make("span", { class: "pick" }, pick),
      make("div", { class: "frame" }, shot, make("span", { class: "marks" }, marks)),
      make("div", { class: "about" }, make("span", { class: "name", title: item.name }, item.name.split("/").at(-1))));
  }

  choose(items) {
    for (const item of items) if (item.status === "succeeded") this.chosen.set(item.id, item);
    this.redraw();
  }

  clear() { this.chosen.clear(); this.redraw(); }

  redraw() {
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.draw();
    this.onChoice(this.chosen);
  }
}

function picture(item) {
  const image = make("img", { alt: "", decoding: "async" });
  // Without a thumbnail the result itself is shown.
  image.addEventListener("error", () => { image.src = result(item); }, { once: true });
  image.src = thumbnail(item);
  return image;
}
