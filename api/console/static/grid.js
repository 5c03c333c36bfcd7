// A grid of images of which only those in view are elements: it stays quick with 100,000.
import { make } from "./elements.js";
import { Blocks, Sequence } from "./images.js";
import { complain } from "./notices.js";
import { called, calledInFull, result, thumbnail } from "./pictures.js";
import { t } from "./texts.js";

const TILE_PX = 190;
const GAP_PX = 10;
const ROWS_BEYOND = 3;
const DENSE = 0.5; // share of the job's images from which a filter is read in blocks
const PAGE_IMAGES = 200;

export class Grid {
  // `counts`: how many images the job has, by the values of the filter "Show"; "": all.
  constructor(element, state, jobId, { counts, onChoice, onPlay }) {
    Object.assign(this, { element, state, jobId, counts, onChoice, onPlay });
    this.chosen = new Map();
    this.tiles = new Map();
    const draw = () => this.draw();
    addEventListener("scroll", draw, { passive: true });
    new ResizeObserver(draw).observe(element);
  }

  // Start again with a filter, the parameters of a request for images.
  reset(query = {}) {
    const counts = this.counts(), total = counts[""];
    const asked = new URLSearchParams(query).toString();
    const passing = counts[asked] ?? 0; // of a search it is not known
    const more = { changed: () => { if (this.images === images) this.draw(); }, failed: (error) => { if (this.images === images) complain(error); } };
    const images = asked in counts && passing >= DENSE * total
      ? new Blocks(this.jobId, query, { ...more, total, density: total ? passing / total : 1 })
      : new Sequence(this.jobId, query, { ...more, size: PAGE_IMAGES });
    this.images = images;
    // The review goes on with what is filtered here.
    this.which = asked && asked in counts ? `&which=${encodeURIComponent(asked)}` : "";
    scrollTo({ top: Math.min(scrollY, this.element.offsetTop) });
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.draw();
  }

  // Ask again for what is in view and not settled, and for what was added.
  async refresh() {
    const images = this.images;
    try { await images.refresh(new Set(this.tiles.keys()), this.counts()[""]); } catch (error) { complain(error); }
    if (this.images === images) this.draw();
  }

  get waiting() { return [...this.images.loaded()].some((item) => item.redo?.status === "waiting"); }

  put(item) {
    this.images.put(item);
    if (this.tiles.has(item.id)) this.draw();
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width || !this.images) return;
    const columns = Math.max(2, Math.floor((width + GAP_PX) / (TILE_PX + GAP_PX)));
    const side = (width - GAP_PX * (columns - 1)) / columns;
    const pitch = side + 34 + GAP_PX;
    const { images } = this, rows = Math.ceil(images.count / columns);
    this.element.style.height = `${rows * pitch}px`;
    const top = -this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / pitch) - ROWS_BEYOND);
    const last = Math.min(rows, Math.ceil((top + innerHeight) / pitch) + ROWS_BEYOND);
    const from = Math.min(first * columns, images.count), to = Math.min(last * columns, images.count);
    images.want(from, to);
    const wanted = new Map();
    for (let index = from; index < to; index++) {
      const item = images.at(index);
      wanted.set(item?.id ?? `#${index}`, [index, item]);
    }
    for (const [id, tile] of this.tiles) {
      if (!wanted.has(id)) { tile.remove(); this.tiles.delete(id); }
    }
    let before = null;
    for (const [id, [index, item]] of wanted) {
      let tile = this.tiles.get(id);
      // An image that was asked for again and did not change keeps its tile, with all that happens there.
      const shown = JSON.stringify(item);
      if (tile?.shown !== shown) {
        const fresh = item ? this.tile(item) : make("div", { class: "tile", role: "listitem", "aria-busy": "true" });
        fresh.shown = shown;
        const focused = tile?.contains(document.activeElement) && document.activeElement.tagName;
        if (tile) tile.replaceWith(fresh);
        if (focused) fresh.querySelector(focused)?.focus({ preventScroll: true });
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
    this.say();
  }

  say() {
    const { images } = this, total = this.counts()[""];
    if (images.ended) this.state.textContent = images.count ? "" : total ? `${t("grid.empty")}. ${t("grid.empty_do")}` : t("grid.waiting");
    else this.state.textContent = images.run ? t("grid.loading") : "";
  }

  tile(item) {
    const pick = make("input", { type: "checkbox", "aria-label": `${t("grid.select")} ${item.name}`, checked: this.chosen.has(item.id),
      onchange: () => { pick.checked ? this.chosen.set(item.id, item) : this.chosen.delete(item.id); this.onChoice(this.chosen); } });
    const marks = [
      item.redo?.status === "waiting" && make("span", { class: "mark" }, t("grid.redoing")),
      item.redo?.status === "failed" && make("span", { class: "mark reject", title: item.redo.error?.detail }, t("grid.redo_failed")),
      item.verdict && make("span", { class: `mark ${item.verdict}` }, t(`grid.${item.verdict}ed`)),
      !item.verdict && item.review_reasons.slice(0, 2).map((one) => make("span", { class: "mark", title: t(`reason.${one}`) }, t(`mark.${one}`))),
      item.outputs.some((one) => one.unmet.length) && make("span", { class: "mark rule", title: item.outputs.flatMap((one) => one.unmet).join("\n") }, t("grid.rule")),
    ];
    const done = item.status === "succeeded";
    const shot = done
      ? make("a", { class: "shot checks", href: `/console/jobs/${this.jobId}/review?at=${item.id}${this.which}`, "aria-label": t("grid.open", { name: item.name }) }, picture(item))
      : make("div", { class: "shot" }, item.error
        ? make("span", { class: "why" }, item.error.detail)
        : make("span", { class: `state ${item.status}` }, t(`status.${item.status}`)));
    const play = done && this.onPlay && item.kind === "clip" && make("button", { class: "play", "aria-label": t("clip.play", { name: item.name }), onclick: () => this.onPlay(item) }, "▶");
    return make("div", { class: "tile", role: "listitem" },
      done && make("span", { class: "pick" }, pick),
      make("div", { class: "frame" }, shot, make("span", { class: "marks" }, marks), play),
      make("div", { class: "about" }, make("span", { class: "name", title: calledInFull(item) }, called(item))));
  }

  // Chooses the first `most` images that pass the filter. Whether that was all of them.
  async chooseAll(most) {
    const items = await this.images.all(most);
    for (const item of items) if (item.status === "succeeded") this.chosen.set(item.id, item);
    this.redraw();
    return this.images.ended && items.length === this.images.count;
  }

  chooseOnly(item) {
    this.chosen.clear();
    this.chosen.set(item.id, item);
    this.redraw();
  }

  clear() { this.chosen.clear(); this.redraw(); }

  focus(item) { this.tiles.get(item.id)?.querySelector("input")?.focus({ preventScroll: true }); }

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
