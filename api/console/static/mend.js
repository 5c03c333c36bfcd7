// The page that mends one image: loads photo and matte, paints, saves, does it again.
import { call, request } from "./api.js";
import { openDatabase, STORES } from "./database.js";
import { byId, make } from "./elements.js";
import { Stroke } from "./mend/brush.js";
import { followGestures } from "./mend/gestures.js";
import { History } from "./mend/history.js";
import { Matte } from "./mend/matte.js";
import { Subject } from "./mend/subject.js";
import { View } from "./mend/view.js";
import { ask, complain } from "./notices.js";
import { matte as matteOf, photo as photoOf, photoThumbnail, seen } from "./pictures.js";
import { t } from "./texts.js";

const LOOK_MS = 300;
const PATIENCE_MS = 120_000;
const board = byId("board"), canvas = byId("canvas"), over = byId("over");
const { item: itemId, key } = byId("mend-page").dataset;

let item, matte, history, view, subject, stroke = null, tool = "erase", busy = false, stepping = 0;

async function begin() {
  item = await call("GET", `/v1/items/${itemId}`);
  const [photo, grey] = await Promise.all([picture(photoOf(item)).catch(() => null), picture(matteOf(item))]);
  matte = new Matte(photo?.bitmap ?? await standIn(grey.bitmap), grey.bitmap);
  grey.bitmap.close();
  history = new History(matte, await openDatabase(key, STORES), itemId, { changed: showState, unkept: () => complain({ detail: t("mend.not_kept") }) });
  view = new View(canvas, matte);
  subject = new Subject(matte, showMeant);
  view.mark = (context, place) => subject.draw(context, place);
  followGestures(canvas, view, { begin: press, go: move, end: release, drop: cancel, hover, zoomed: showScale });
  const kept = await history.open(grey.etag);
  if (kept === "conflict") {
    if (await ask(t("mend.conflict"), t("mend.mine"), { danger: false, no: t("mend.theirs") })) await history.takeMine();
    else await history.forget();
  }
  view.draw();
  showState();
  showFinished();
  if (kept === "kept") say("mend.kept", { n: history.at });
  board.dataset.ready = "yes";
}

// Browsers do not know every format that is taken, such as HEIC: then a small copy is enlarged.
async function standIn({ width, height }) {
  complain({ detail: t("mend.stand_in") });
  let small = new OffscreenCanvas(1, 1);
  const context = small.getContext("2d");
  context.fillStyle = "#888";
  context.fillRect(0, 0, 1, 1);
  try { small = await (await request("GET", photoThumbnail(item))).blob(); } catch { /* none is kept */ }
  return createImageBitmap(small, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
}

async function picture(address) {
  const response = await request("GET", address);
  return { etag: response.headers.get("ETag"), bitmap: await createImageBitmap(await response.blob(), { colorSpaceConversion: "none" }) };
}

// Painting.
const share = (id) => Number(byId(id).value) / 100;
// From 1 pixel to an eighth of the photo's longer side, finer at the small end.
const radius = (pressure = 1) => Math.max(0.5, (share("size") ** 2 * Math.max(matte.width, matte.height)) / 8) * pressure;

// A pen says how hard it presses; a mouse always says a half.
const pressed = (event) => (event.pointerType === "pen" && event.pressure > 0 ? 0.3 + 0.7 * event.pressure : 1);

function press(event) {
  if (busy || stepping) return;
  const at = view.toPhoto(event);
  if (tool === "box" || tool === "points") return subject.press(tool, at, event.shiftKey || event.altKey);
  stroke = new Stroke(matte, { target: tool === "erase" ? 0 : 255, softness: share("softness"), strength: share("strength"), edgeAware: byId("edge-aware").checked });
  paint(event, at);
}

function move(event) {
  if (subject.pulling) { subject.pull(view.toPhoto(event)); view.draw(); return; }
  if (!stroke) return;
  // Between two frames a fast pointer was in more places than one; those close together are one.
  const all = event.getCoalescedEvents?.() ?? [];
  for (const one of all.length ? all : [event]) {
    const at = view.toPhoto(one);
    const near = Math.hypot(at.x - stroke.last.x, at.y - stroke.last.y) < 0.1 * radius();
    if (!near || one === all.at(-1) || all.length < 2) paint(one, at);
  }
}

function paint(event, { x, y }) {
  const began = performance.now();
  const changed = stroke.to(x, y, radius(pressed(event)));
  if (changed) view.draw(changed);
  view.spent += performance.now() - began;
}

function release() {
  if (subject.pulling) { subject.release(); view.draw(); return; }
  if (!stroke) return;
  const tiles = stroke.delta();
  stroke = null;
  history.add(tiles).catch(complain);
}

// A second finger came: what the first painted was no stroke.
function cancel() {
  subject.cancel();
  if (!stroke) return;
  const tiles = stroke.delta();
  stroke = null;
  for (const [index, bytes] of tiles) matte.flip(index, bytes);
  view.draw();
}

function hover(event) {
  const context = over.getContext("2d");
  if (over.width !== canvas.width || over.height !== canvas.height) Object.assign(over, { width: canvas.width, height: canvas.height });
  context.clearRect(0, 0, over.width, over.height);
  if (!event || tool === "box" || tool === "points") return;
  const { left, top } = canvas.getBoundingClientRect();
  for (const [style, width] of [["#000", 3], ["#fff", 1]]) {
    context.beginPath();
    context.arc((event.clientX - left) * devicePixelRatio, (event.clientY - top) * devicePixelRatio, Math.max(1, radius(pressed(event)) * view.scale), 0, 2 * Math.PI);
    Object.assign(context, { strokeStyle: style, lineWidth: width });
    context.stroke();
  }
}

// Undo and redo; no stroke begins until they are done.
async function step(way) {
  if (stroke || busy) return;
  stepping++;
  try { await history[way](); } catch (error) { complain(error); } finally { stepping--; }
}

// Saving, and what follows.
async function save() {
  if (busy || !history.dirty) return;
  await history.work;
  setBusy("mend.saving");
  try {
    const sent = await request("PUT", `/v1/items/${itemId}/matte`, { body: await matte.png(), headers: { "If-Match": history.etag, "Content-Type": "image/png" } });
    item = await sent.json();
    say("mend.rendering");
    await untilMade();
    await history.forget();
    await again();
    byId("finished").scrollIntoView({ block: "nearest" });
    say("mend.saved");
  } catch (error) {
    say("");
    if (error.code !== "matte-changed") complain(error);
    else if (await overwrites()) { setFree(); return save(); }
  }
  setFree();
}

// The image was changed elsewhere. Yes: the strokes of this page win. No: they are given up.
async function overwrites() {
  if (await ask(t("mend.conflict"), t("mend.mine"), { danger: false, no: t("mend.theirs") })) {
    const now = await picture(matteOf(await call("GET", `/v1/items/${itemId}`)));
    now.bitmap.close();
    history.etag = now.etag;
    return true;
  }
  await history.forget();
  await again();
  return false;
}

async function redo() {
  if (busy) return;
  if (history.dirty && !(await ask(t("mend.leave_redo"), t("mend.yes_redo"), { no: t("mend.no") }))) return;
  const wanted = {};
  try {
    if (byId("model")?.value) wanted.model = byId("model").value;
    if (byId("options").value.trim()) wanted.options = JSON.parse(byId("options").value);
    if (subject.value) wanted.subject = subject.value;
  } catch (error) { return complain({ detail: t("new.more_wrong", { why: error.message }) }); }
  setBusy("mend.redoing");
  try {
    item = await call("POST", `/v1/items/${itemId}/redo`, wanted);
    await untilMade();
    await history.forget();
    subject.forget();
    await again();
    byId("finished").scrollIntoView({ block: "nearest" });
    say("mend.redone");
  } catch (error) { say(""); complain(error); }
  setFree();
}

// Waits until no version of the item is being made. Throws why it failed.
async function untilMade() {
  const until = performance.now() + PATIENCE_MS;
  while (item.redo?.status === "waiting") {
    if (performance.now() > until) throw { detail: t("mend.slow") };
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    item = await call("GET", `/v1/items/${itemId}`);
  }
  if (item.redo?.status === "failed") throw { detail: t("mend.failed", { why: item.redo.error?.detail ?? "" }), remedy: item.redo.error?.remedy };
}

// The matte as it is stored now.
async function again() {
  item = await call("GET", `/v1/items/${itemId}`);
  const grey = await picture(matteOf(item));
  matte.read(grey.bitmap);
  grey.bitmap.close();
  history.etag = grey.etag;
  view.draw();
  showFinished();
}

async function showFinished() {
  byId("finished").src = seen(item);
  try {
    const { versions } = await call("GET", `/v1/items/${itemId}/versions`);
    byId("versions").replaceChildren(...versions.toReversed().map((one) => make("li", {},
      make("b", {}, t("mend.version", { n: one.number })), ` ${t(`mend.made_${one.made_by}`)}${one.made_by === "network" && one.model ? ` ${one.model}` : ""}${one.api_key ? `, ${one.api_key}` : ""}`,
      make("time", { datetime: one.finished_at }, one.finished_at ? new Date(one.finished_at).toLocaleTimeString() : ""),
      one.shown ? make("span", { class: "tag" }, t("mend.shown"))
        : one.status === "succeeded" && make("button", { type: "button", onclick: () => restore(one.number) }, t("mend.use")))));
  } catch (error) { complain(error); }
}

async function restore(number) {
  if (busy) return;
  if (history.dirty && !(await ask(t("mend.leave_version"), t("mend.yes_version"), { no: t("mend.no") }))) return;
  setBusy("mend.loading");
  try {
    await call("POST", `/v1/items/${itemId}/versions/${number}/restore`);
    await history.forget();
    await again();
    say("mend.ready");
  } catch (error) { say(""); complain(error); }
  setFree();
}

// What the page says.
function say(name, values) { byId("state").textContent = name && t(name, values); }
function setBusy(name) { busy = true; say(name); showState(false); }
function setFree() { busy = false; showState(false); }

function showState(aloud = true) {
  byId("undo").disabled = busy || history.at === 0;
  byId("redo").disabled = busy || history.at === history.steps.length;
  byId("save").disabled = busy || !history.dirty;
  byId("go-redo").disabled = busy;
  if (aloud && !busy) history.dirty ? say("mend.unsaved", { n: history.at }) : say(["box", "points"].includes(tool) ? `mend.ready_${tool}` : "mend.ready");
  board.dataset.steps = history.at;
  view.draw();
  showScale();
}

function showScale() {
  byId("scale").textContent = `${Math.round(view.scale * 100)} %`;
  byId("size-said").textContent = `${Math.round(2 * radius())} px`;
}

function showMeant() {
  const value = subject.value;
  byId("meant").textContent = !value ? t("mend.redo_hint") : value.box ? t("mend.meant_box") : t("mend.meant_points", { n: value.points.length });
  byId("forget-meant").hidden = !value;
  const tools = byId("go-redo").closest(".tools"), below = byId("go-redo").getBoundingClientRect().bottom - tools.getBoundingClientRect().bottom;
  if (value && below > 0) tools.scrollTop += below + 16; // "Start" is what comes next
  view.draw();
}

function take(name) {
  tool = name;
  for (const one of document.querySelectorAll("[data-tool]")) one.setAttribute("aria-pressed", one.dataset.tool === name);
  hover(null);
  showState();
}

for (const one of document.querySelectorAll("[data-tool]")) one.onclick = () => take(one.dataset.tool);
for (const one of document.querySelectorAll("[data-ground]")) one.onclick = () => {
  board.classList.remove("checks", "white", "black", "grey");
  board.classList.add(one.dataset.ground === "checker" ? "checks" : one.dataset.ground);
  for (const other of document.querySelectorAll("[data-ground]")) other.setAttribute("aria-pressed", other === one);
};
byId("size").oninput = showScale;
byId("ghost").oninput = () => { view.ghost = share("ghost"); view.draw(); };
byId("undo").onclick = () => step("undo");
byId("redo").onclick = () => step("redo");
byId("save").onclick = save;
byId("go-redo").onclick = redo;
byId("forget-meant").onclick = () => subject.forget();
byId("in").onclick = () => { view.zoomTo(view.scale * 1.5); showScale(); };
byId("out").onclick = () => { view.zoomTo(view.scale / 1.5); showScale(); };
byId("fit").onclick = () => { view.fit(); showScale(); };
byId("help").onclick = () => byId("keys").showModal();

addEventListener("keydown", (event) => {
  if (!view || stroke || document.querySelector("dialog[open]") || /^(TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const pressedKey = event.key.toLowerCase();
  const nudge = (by) => () => { byId("size").value = Number(byId("size").value) + by; showScale(); };
  const does = event.ctrlKey || event.metaKey
    ? { z: () => step(event.shiftKey ? "redo" : "undo"), y: () => step("redo"), s: save }[pressedKey]
    : { e: () => take("erase"), r: () => take("restore"), b: () => take("box"), p: () => take("points"), x: () => take(tool === "erase" ? "restore" : "erase"),
        "[": nudge(-4), "]": nudge(4), "+": byId("in").onclick, "=": byId("in").onclick, "-": byId("out").onclick, 0: byId("fit").onclick,
        1: () => { view.zoomTo(1); showScale(); }, 4: () => { view.zoomTo(4); showScale(); }, "?": byId("help").onclick }[pressedKey];
  if (!does) return;
  event.preventDefault();
  does();
});
addEventListener("beforeunload", (event) => { if (history?.dirty && !history.kept) event.preventDefault(); });
// For `tests.scale.console`: the milliseconds that each of the last frames took.
window.mattingFrames = () => view.frames.splice(0);

try { await begin(); } catch (error) { say(""); complain(error); }
