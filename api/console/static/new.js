// The page that makes a job.
import { call, Problem } from "./api.js";
import { dropped, picked } from "./dropping.js";
import { byId, make } from "./elements.js";
import { complain } from "./notices.js";
import { seen } from "./pictures.js";
import { t } from "./texts.js";
import { forgetTrial, tryOn } from "./trial.js";
import { isClip, Uploads } from "./uploads.js";

const form = byId("new");
const rounded = (number) => number.toLocaleString(undefined, { maximumFractionDigits: 1 });
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${rounded(bytes / 1e6)} MB`);
let trialAt = 0;
let estimated = "", namedAt = "";
let due = null;
let starting = false, trying = false;

const uploads = await Uploads.open(form.dataset.key, Number(form.dataset.maxBytes), Number(form.dataset.maxClipBytes), showSoon);
const draft = (await uploads.draft.get("draft")) ?? { id: crypto.randomUUID?.() ?? String(Math.random()), wanted: false, values: {} };
restore();
show();
if (!uploads.mine) {
  byId("new").inert = true;
  byId("other-tab").hidden = false;
}

// Choosing files.
byId("pick-files").onclick = () => byId("files").click();
byId("pick-folder").onclick = () => byId("folder").click();
for (const id of ["files", "folder"]) {
  byId(id).onchange = () => { uploads.add(picked(byId(id).files)).catch(complain); byId(id).value = ""; };
}
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
byId("drop").ondragover = () => byId("drop").classList.add("over");
byId("drop").ondragleave = () => byId("drop").classList.remove("over");
addEventListener("drop", async (event) => {
  if (!uploads.mine) return;
  byId("drop").classList.remove("over");
  try { await uploads.add(await dropped(event.dataTransfer)); } catch (error) { complain(error); }
});
byId("again").onclick = () => uploads.again();
byId("forget").onclick = async () => { draft.wanted = false; await Promise.all([uploads.forget(), forgetTrial()]); };

// What was typed is kept with the files.
form.addEventListener("input", () => {
  byId("colour-label").hidden = byId("background").value !== "colour";
  const values = {};
  for (const field of form.querySelectorAll("input[id], select, textarea")) {
    if (field.type !== "file") values[field.id] = field.type === "checkbox" ? field.checked : field.value;
  }
  draft.values = { ...values, preset: form.elements.preset.value };
  keep();
  show();
});

function keep() { uploads.draft.put("draft", draft).catch(complain); }

function restore() {
  for (const [id, value] of Object.entries(draft.values)) {
    const field = id === "preset" ? form.elements.preset : byId(id);
    if (!field) continue;
    if (field.type === "checkbox") field.checked = value;
    else field.value = value;
  }
  if (byId("places").value) byId("elsewhere").open = true;
  if (byId("destination").value) byId("publish").open = true;
  namedAt = byId("places").value.trim();
  byId("colour-label").hidden = byId("background").value !== "colour";
}

// Thousands of files report their progress; a person sees five states a second.
function showSoon() {
  due ??= setTimeout(() => { due = null; show(); }, 200);
}

function show() {
  const { all, failed, missing, leftOut, complete } = uploads;
  const sent = all.filter((one) => one.sent).length;
  byId("sending").hidden = !all.length;
  byId("sending-bar").value = uploads.bytes ? uploads.sentBytes / uploads.bytes : 0;
  byId("sending-text").textContent = failed.length
    ? t("new.sending_failed", { n: failed.length, why: uploads.failedWhy?.detail ?? "" })
    : t(complete ? "new.sent" : "new.sending", { sent: sent.toLocaleString(), total: all.length.toLocaleString(), done: size(uploads.sentBytes), all: size(uploads.bytes) });
  byId("again").hidden = !failed.length;
  byId("missing").hidden = !missing.length;
  byId("missing").textContent = t("new.missing", { n: missing.length.toLocaleString() });
  byId("left-out").hidden = !leftOut.length;
  byId("left-out").querySelector("summary").textContent = t("new.left_out", { n: leftOut.length.toLocaleString() });
  byId("left-out").querySelector("ul").replaceChildren(...leftOut.slice(0, 500).map(([name, why]) => make("li", {}, `${name} – ${why}`)));
  const trials = all.filter((one) => one.kind === "photo" && !isClip(one.name) && (one.file || one.blob));
  byId("try").disabled = byId("another").disabled = trying || !trials.length;
  byId("clip-format-label").hidden = !all.some((one) => isClip(one.name));
  byId("another").hidden = trials.length < 2;
  if (trials.length && !trying && byId("trial").hidden) byId("trial-text").textContent = t("new.trial_ready");
  const named = byId("places").value.trim(), both = Boolean(all.length && named);
  byId("start").disabled = starting || both || !(all.length || named);
  byId("start-text").textContent = starting ? t("new.starting") : both ? t("new.both") : draft.wanted && !complete ? t("new.start_when_sent") : all.length || named ? "" : t("new.nothing");
  if (!both && (complete || (!all.length && named && named === namedAt))) estimateOnce();
  else estimated = byId("estimate").textContent = "";
  if (draft.wanted && complete && !both && !starting) submit();
}

function options() {
  const preset = form.elements.preset.value;
  const chosen = {};
  if (preset) chosen.preset = preset;
  if (byId("format").value) chosen.format = byId("format").value;
  if (byId("background").value === "transparent") chosen.background = null;
  if (byId("background").value === "colour") chosen.background = byId("colour").value;
  if (byId("model")?.value) chosen.model = byId("model").value;
  if (byId("crop").checked) chosen.crop = true;
  if (!byId("clip-format-label").hidden && byId("clip-format").value) chosen.clip_format = byId("clip-format").value;
  const more = byId("more").value.trim();
  if (more) {
    try { Object.assign(chosen, JSON.parse(more)); } catch (error) {
      throw new Problem({ detail: t("new.more_wrong", { why: error.message }) });
    }
  }
  return chosen;
}

function namedSource() {
  const lines = byId("places").value.split(/\s+/).filter(Boolean);
  if (!lines.length) return null;
  if (lines.every((line) => /^https?:/i.test(line))) return { urls: lines };
  if (lines.length > 1) throw new Problem({ detail: t("new.places_mixed") });
  const kind = /\.zip$/i.test(lines[0]) ? "zip" : /\.(csv|jsonl|ndjson)$/i.test(lines[0]) ? "manifest" : "prefix";
  return { [kind]: lines[0] };
}

function jobRequest() {
  const name = byId("name").value.trim();
  const destination = byId("destination").value.trim();
  return { source: uploads.source ?? namedSource(), options: options(), priority: Number(byId("priority").value), metadata: name ? { name } : {}, ...(destination ? { destination } : {}) };
}

// The trial: one photo, with the options as they stand.
byId("try").onclick = () => trial(0);
byId("another").onclick = () => trial(1);

async function trial(step) {
  const photos = uploads.all.filter((one) => one.kind === "photo" && !isClip(one.name) && (one.file || one.blob));
  trialAt = (trialAt + step) % photos.length;
  const { name, file, blob } = photos[trialAt];
  byId("trial-text").textContent = t("new.trying", { name });
  trying = true;
  show();
  try {
    const wanted = options();
    byId("trial-result").removeAttribute("src"); // not another photo's
    byId("trial-photo").src = URL.createObjectURL(file ?? blob);
    byId("trial").hidden = false;
    const { item, seconds } = await tryOn(file ?? blob, name, wanted);
    byId("trial-result").src = seen(item);
    const marks = item.review_reasons.map((one) => t(`reason.${one}`)).join(", ");
    byId("trial-text").textContent = t(marks ? "new.tried_marks" : "new.tried", { name, seconds, marks });
  } catch (error) { complain(error); byId("trial").hidden = true; byId("trial-text").textContent = t("new.trial_ready"); }
  trying = false;
  show();
}

async function estimateOnce() {
  const told = JSON.stringify([uploads.all.length, byId("places").value]);
  if (told === estimated) return;
  estimated = told;
  byId("estimate").textContent = "";
  try {
    const source = uploads.source ?? namedSource();
    if (source.zip) return; // what is in it is known when it is read
    const known = await call("POST", "/v1/jobs?dry_run=true", { source, options: {} });
    if (told !== estimated) return;
    const n = known.images.toLocaleString() + (known.at_least ? "+" : "");
    byId("estimate").textContent = known.seconds === null ? t("new.estimate_unknown", { n })
      : t("new.estimate", { n, time: known.seconds < 90 ? t("time.seconds", { n: Math.max(1, Math.round(known.seconds)) }) : t("time.minutes", { n: Math.round(known.seconds / 60) }) });
  } catch (error) { if (told === estimated) byId("estimate").textContent = [error.detail, error.remedy].filter(Boolean).join(" "); }
}
byId("places").addEventListener("change", () => { namedAt = byId("places").value.trim(); show(); });

form.addEventListener("submit", (event) => {
  event.preventDefault();
  draft.wanted = true;
  keep();
  if (uploads.all.length && !uploads.complete) show();
  else submit();
});

async function submit() {
  starting = true;
  show();
  try {
    // The draft's own key: whatever happens to the answer, the job is made once.
    const job = await call("POST", "/v1/jobs", jobRequest(), { headers: { "Idempotency-Key": draft.id } });
    await Promise.all([uploads.forget(), forgetTrial()]);
    location.href = `/console/jobs/${job.id}`;
  } catch (error) {
    draft.wanted = starting = false;
    if (error.status === 422 || error.status === 400) draft.id = crypto.randomUUID?.() ?? String(Math.random());
    keep();
    complain(error);
    show();
  }
}
