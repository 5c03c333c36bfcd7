// Review: one photo after the other, by keys. The next three are loaded ahead.
import { call } from "./api.js";
import { doubts, player, sentClip } from "./clip.js";
import { byId, make } from "./elements.js";
import { complain, notify } from "./notices.js";
import { called, calledInFull, load, photo, photoThumbnail, result, seen, thumbnail } from "./pictures.js";
import { t } from "./texts.js";
import { Verdicts } from "./verdicts.js";
import { drawWhy } from "./why.js";

const AHEAD = 3;
const PAGE_IMAGES = 100;
const REMEMBER_MS = 300;
const GROUNDS = ["checker", "white", "black", "grey", "own"];

const jobId = byId("review").dataset.job;
const maySubmit = document.body.dataset.maySubmit === "yes";
const stage = byId("stage");
const sights = new Map(); // of items near: the elements that show them
const asked = new URLSearchParams(location.search);

let items = [], at = 0, next = null, ended = false, run = 0, loading = null, remembering = null;
const undone = [];

const verdicts = new Verdicts({
  stored: (item) => { const index = items.findIndex((one) => one.id === item.id); if (index >= 0) items[index] = { ...item }; },
  refused: (item) => { item.verdict = null; show(); },
  waiting: (count) => { if (count) notify(t("review.unsaved", { n: count })); },
});
addEventListener("beforeunload", (event) => { if (verdicts.unsent) event.preventDefault(); });

byId("which").value = asked.get("which") ?? (asked.get("at") || byId("review").dataset.pending === "0" ? "status=succeeded" : "review=pending");
byId("which").onchange = () => { history.replaceState(null, "", `?which=${encodeURIComponent(byId("which").value)}`); start(null); };
ground(localStorage.getItem("matting.ground") ?? "checker");
byId("own-colour").value = localStorage.getItem("matting.own") ?? "#c8b6a6";
stage.style.setProperty("--own", byId("own-colour").value);
await start(asked.get("at"));
stage.focus();

async function start(wanted) {
  const mine = ++run;
  [items, at, next, ended, loading] = [[], 0, null, false, null];
  for (const one of sights.values()) one.element.remove();
  sights.clear();
  do await more(); while (wanted && !ended && !items.some((one) => one.id === wanted));
  at = items.findIndex((one) => one.id === wanted);
  if (at < 0 && wanted && mine === run) { // it passes the filter no longer: it was mended
    try { items.unshift(await call("GET", `/v1/items/${wanted}`)); } catch (error) { complain(error); }
  }
  at = Math.max(0, at);
  show();
}

function more() {
  if (ended) return Promise.resolve();
  const mine = run;
  loading ??= (async () => {
    const [name, value] = byId("which").value.split("=");
    const query = new URLSearchParams({ [name]: value, limit: PAGE_IMAGES, ...(next ? { cursor: next } : {}) });
    try {
      const page = await call("GET", `/v1/jobs/${jobId}/items?${query}`);
      if (mine !== run) return;
      items.push(...page.items.filter((one) => one.status === "succeeded"));
      next = page.next_cursor;
      ended = next === null;
    } catch (error) { ended = true; complain(error); } finally { loading = null; }
  })();
  return loading;
}

// The elements of an item: result, photo, and why it was marked.
function sight(item) {
  let known = sights.get(item.id);
  if (!known) {
    const clip = item.kind === "clip", shown = load(seen(item)), before = clip ? sentClip(item) : load(photo(item));
    shown.alt = item.name;
    before.alt = "";
    before.className = "photo";
    // a format that browsers do not know, such as HEIC; of a clip the thumbnail is its strip
    before.addEventListener("error", () => { clip ? (before.poster = photoThumbnail(item)) : (before.src = photoThumbnail(item)); }, { once: true });
    const drawn = make("canvas", { class: "drawn" });
    const film = player(item);
    if (film) shown.className = "poster";
    // Until a large result is there, its small picture is: an empty stage looks like an empty result.
    const early = !film && seen(item) !== thumbnail(item) && !shown.complete && load(thumbnail(item));
    if (early) early.alt = "";
    if (early) for (const event of ["load", "error"]) shown.addEventListener(event, () => early.remove());
    const element = make("div", { class: "sight" }, early, shown, drawn, film, before, clip && doubts(item, film));
    known = { element, shown, before, drawn, film, ready: shown.decode().catch(() => {}) };
    for (const [one, event] of [[shown, "load"], [film, "loadedmetadata"]]) if (one) one.addEventListener(event, fit); // its size is known now
    shown.addEventListener("error", () => element.append(make("p", { class: "problem" }, t("review.picture_lost"))));
    if (!clip) drawWhy(item, drawn, shown);
    sights.set(item.id, known);
  }
  return known;
}

function show() {
  const item = items[at];
  stage.classList.remove("photo-shown");
  for (const id of ["accept", "reject", "compare", "zoom", "slide"]) if (byId(id)) byId(id).disabled = !item;
  const clip = item?.kind === "clip"; // its frames are not mended, and not drawn upon
  if (byId("mend")) byId("mend").hidden = !item || clip;
  for (const id of ["slide", "why"]) byId(id).hidden = clip;
  byId("prev").disabled = at === 0;
  byId("next").disabled = !item;
  if (byId("undo")) byId("undo").disabled = !undone.length;
  byId("at").textContent = item ? t("review.of", { n: at + 1, total: `${items.length}${ended ? "" : "+"}` }) : "";
  byId("name").textContent = item ? called(item) : "";
  byId("name").title = item ? calledInFull(item) : "";
  if (!item) {
    byId("marks").replaceChildren();
    stage.replaceChildren(over());
    return;
  }
  const { element } = sight(item);
  stage.replaceChildren(element);
  fit();
  byId("marks").replaceChildren(
    ...(item.verdict ? [make("span", { class: `mark ${item.verdict}` }, t(`grid.${item.verdict}ed`), item.verdict_note ? `: ${item.verdict_note}` : "")] : []),
    ...item.review_reasons.map((one) => make("span", { class: "mark" }, t(`reason.${one}`))),
    ...item.outputs.flatMap((one) => one.unmet).map((one) => make("span", { class: "mark rule" }, one)));
  remember();
  if (byId("mend")) byId("mend").href = `/console/items/${item.id}/mend?which=${encodeURIComponent(byId("which").value)}`;
  const near = items.slice(Math.max(0, at - AHEAD), at + AHEAD + 1);
  for (const one of near) sight(one);
  for (const [id, one] of sights) if (!near.some((other) => other.id === id)) { one.element.remove(); sights.delete(id); }
  if (at + 2 * AHEAD >= items.length && !ended) more().then(() => { if (items[at]) for (const one of items.slice(at, at + AHEAD + 1)) sight(one); label(); });
}

// The address says which image is shown, for a reload and for who comes back from elsewhere. Not at
// each step: browsers refuse that to who holds an arrow key down.
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(rememberNow, REMEMBER_MS);
}
function rememberNow() {
  clearTimeout(remembering);
  if (items[at]) history.replaceState(null, "", `?${new URLSearchParams({ at: items[at].id, which: byId("which").value })}`);
}
if (byId("mend")) byId("mend").addEventListener("click", rememberNow);

function label() {
  if (items[at]) byId("at").textContent = t("review.of", { n: at + 1, total: `${items.length}${ended ? "" : "+"}` });
}

function over() {
  const count = (verdict) => items.filter((one) => one.verdict === verdict).length;
  return make("section", { class: "empty" },
    make("h2", {}, t(items.length ? "review.over" : "review.nothing")),
    make("p", {}, items.length ? t("review.over_do", { accepted: count("accept"), rejected: count("reject") }) : t("review.nothing_do")),
    make("p", { class: "actions" }, make("a", { class: "button main", href: `/console/jobs/${jobId}` }, t("review.to_job")),
      count("accept") > 0 && make("a", { class: "button", href: `/v1/jobs/${jobId}/archive.zip?review=accepted`, download: true }, t("review.zip_accepted")),
      count("reject") > 0 && make("a", { class: "button", href: `?which=review%3Drejected` }, t("review.see_rejected"))));
}

// How long a key took until the next photo was painted; the tests read it.
async function react(began, change) {
  change();
  const item = items[at];
  if (item) await sights.get(item.id)?.ready;
  requestAnimationFrame(() => setTimeout(() => { stage.dataset.reactedMs = (performance.now() - began).toFixed(1); stage.dataset.shown = items[at]?.id ?? ""; }));
}

const go = (step, began = performance.now()) => react(began, () => { at = Math.min(Math.max(at + step, 0), items.length); show(); });

function judge(verdict, note = null, began = performance.now()) {
  const item = items[at];
  if (!item || !maySubmit) return;
  undone.push({ id: item.id, verdict: item.verdict, note: item.verdict_note });
  Object.assign(item, { verdict, verdict_note: note });
  verdicts.put(item, verdict, note);
  go(1, began);
}

function undo() {
  const last = undone.pop();
  if (!last) return;
  const index = items.findIndex((one) => one.id === last.id);
  if (index < 0) return;
  Object.assign(items[index], { verdict: last.verdict, verdict_note: last.note });
  verdicts.put(items[index], last.verdict, last.note);
  at = index;
  go(0);
}

// A reason by one more key.
const because = byId("because");
let rejectedAt = 0;
function reject() {
  if (!items[at] || !maySubmit) return;
  rejectedAt = performance.now();
  byId("words").value = "";
  because.showModal();
  because.querySelector("button").focus();
}
function rejected(note) { because.close(); stage.focus(); judge("reject", note || null); }
because.addEventListener("click", (event) => { const button = event.target.closest(".because button"); if (button) rejected(button.value); });
because.addEventListener("keydown", (event) => {
  event.stopPropagation(); // the dialog is closed when the page's own keys look
  if (event.target.id === "words") { if (event.key === "Enter") { event.preventDefault(); rejected(byId("words").value.trim()); } return; }
  const chosen = because.querySelectorAll(".because button")[Number(event.key) - 1];
  if (chosen) { event.preventDefault(); rejected(chosen.value); }
  else if (event.key.toLowerCase() === "r") { event.preventDefault(); rejected(""); }
});

function ground(name) {
  stage.classList.remove(...GROUNDS, "checks");
  stage.classList.add(name === "checker" ? "checks" : name);
  for (const one of document.querySelectorAll("[data-ground]")) one.setAttribute("aria-pressed", one.dataset.ground === name);
  localStorage.setItem("matting.ground", name);
}

function toggle(button, name, on = !stage.classList.contains(name)) {
  stage.classList.toggle(name, on);
  byId(button).setAttribute("aria-pressed", on);
  return on;
}

async function slide() {
  const item = items[at], { shown, before } = sights.get(item?.id) ?? {};
  if (!shown) return;
  await Promise.allSettled([shown.decode(), before.decode()]); // their sizes are known from then on
  if (items[at] !== item) return;
  const same = Math.abs(shown.naturalWidth / shown.naturalHeight - before.naturalWidth / before.naturalHeight) < 0.01;
  if (!same && !stage.classList.contains("sliding")) return notify(t("review.no_slider"));
  byId("slider").hidden = !toggle("slide", "sliding");
}
byId("slider").oninput = () => stage.style.setProperty("--cut", `${byId("slider").value}%`);

// 100 %: a pixel of the result is a pixel of the screen.
function fit() {
  const { element, shown, film } = sights.get(items[at]?.id) ?? {};
  if (!element) return;
  const whole = seen(items[at]) === result(items[at]); // else a thumbnail stands in for it
  const width = film ? film.videoWidth : whole ? shown.naturalWidth : 0, height = film ? film.videoHeight : shown.naturalHeight;
  const zoomed = stage.classList.contains("zoomed") && width;
  element.style.width = zoomed ? `${width / devicePixelRatio}px` : "";
  element.style.height = zoomed ? `${height / devicePixelRatio}px` : "";
}
function zoom(event) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  const x = event?.clientX ? (event.clientX - left) / width : 0.5, y = event?.clientY ? (event.clientY - top) / height : 0.5;
  toggle("zoom", "zoomed");
  fit();
  stage.scrollTo(x * (stage.scrollWidth - width), y * (stage.scrollHeight - height));
}
let pulled = null;
stage.addEventListener("pointerdown", (event) => { if (stage.classList.contains("zoomed")) { pulled = event; stage.setPointerCapture(event.pointerId); } });
stage.addEventListener("pointermove", (event) => { if (pulled) { stage.scrollBy(pulled.clientX - event.clientX, pulled.clientY - event.clientY); pulled = event; } });
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { pulled = null; });
stage.addEventListener("dblclick", zoom);

function comparing(on) {
  const { film, before } = sights.get(items[at]?.id) ?? {};
  if (on && film) [before.preload, before.currentTime, before.muted] = ["auto", film.currentTime, true];
  stage.classList.toggle("photo-shown", on && Boolean(items[at]));
}
for (const [kind, on] of [["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["pointercancel", false]]) byId("compare").addEventListener(kind, () => comparing(on));

for (const [kind, on] of [["keydown", true], ["keyup", false]]) byId("compare").addEventListener(kind, (event) => { if (event.key === " " || event.key === "Enter") comparing(on); });
addEventListener("blur", () => comparing(false)); // the key is let go elsewhere

byId("prev").onclick = () => go(-1);
byId("next").onclick = () => go(1);
byId("slide").onclick = slide;
byId("zoom").onclick = () => zoom();
byId("why").onclick = () => { const hidden = stage.classList.toggle("no-why"); byId("why").setAttribute("aria-pressed", !hidden); };
byId("help").onclick = () => byId("keys").showModal();
if (maySubmit) {
  byId("accept").onclick = () => judge("accept");
  byId("reject").onclick = reject;
  byId("undo").onclick = undo;
}
for (const one of document.querySelectorAll("[data-ground]")) one.onclick = () => ground(one.dataset.ground);
byId("own-colour").oninput = () => { stage.style.setProperty("--own", byId("own-colour").value); localStorage.setItem("matting.own", byId("own-colour").value); ground("own"); };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const began = performance.now(), key = event.key.toLowerCase();
  const does = {
    a: () => judge("accept", null, began), r: reject, u: undo, arrowright: () => go(1, began), arrowleft: () => go(-1, began),
    z: () => zoom(), s: () => { if (!byId("slide").hidden) slide(); }, w: () => { if (!byId("why").hidden) byId("why").click(); }, c: () => comparing(true), "?": () => byId("keys").showModal(),
    m: () => { if (byId("mend") && !byId("mend").hidden) byId("mend").click(); },
    1: () => ground("checker"), 2: () => ground("white"), 3: () => ground("black"), 4: () => ground("grey"), 5: () => ground("own"),
  }[key];
  if (!does) return;
  event.preventDefault();
  if (!event.repeat || key.startsWith("arrow")) does();
});
addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "c") comparing(false); });
