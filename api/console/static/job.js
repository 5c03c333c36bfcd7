// The page of a job: its buttons, its failures by code, the grid, and what many images get at once.
import { call, Problem } from "./api.js";
import { openPlayer } from "./clip.js";
import { byId, make } from "./elements.js";
import { Grid } from "./grid.js";
import { ask, complain, notify } from "./notices.js";
import { result } from "./pictures.js";
import { t } from "./texts.js";
import { zip } from "./zip.js";

const jobId = byId("job").dataset.job;
const FAILURES_COUNTED = 2000;
const ZIP_LIMIT_MB = 1000;
const AT_ONCE = 4;
const MOST_CHOSEN = 2000;
const MOST_SEARCHED = 256; // characters
const TYPING_MS = 150; // without a key, before a search begins

const grid = new Grid(byId("grid"), byId("grid-state"), jobId, { counts: () => JSON.parse(byId("head").dataset.counts), onChoice: showChoice, onPlay: play });

// The filter stands in the address, so that it can be sent and comes back after a reload.
const asked = new URLSearchParams(location.search);
if (asked.get("show") === "failed") byId("show").value = "status=failed";
if (asked.get("filter")) byId("show").value = asked.get("filter");
for (const id of ["show", "reason"]) byId(id).addEventListener("input", applyFilter);
let typing = null;
byId("named").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(applyFilter, TYPING_MS); });
applyFilter();

function applyFilter() {
  const [name, value] = byId("show").value.split("=");
  const reason = byId("reason").value, search = byId("named").value.trim().slice(0, MOST_SEARCHED);
  const query = value ? { [name]: value } : {};
  if (reason === "rule:") query.unmet_rules = "true";
  else if (reason) query.reason = reason;
  if (search) query.search = search;
  grid.reset(query);
  history.replaceState(null, "", byId("show").value ? `?filter=${encodeURIComponent(byId("show").value)}` : location.pathname);
}

// The head is swapped whenever an event tells that the job changed.
let settled = byId("head").dataset.settled;
document.body.addEventListener("htmx:afterSettle", () => {
  const head = byId("head");
  if (head.dataset.settled !== settled) {
    settled = head.dataset.settled;
    grid.refresh();
    countFailures();
  }
});
countFailures();

async function countFailures() {
  const codes = new Map();
  let seen = 0, cursor = null;
  try {
    do {
      const query = new URLSearchParams({ status: "failed", limit: 1000, ...(cursor ? { cursor } : {}) });
      const page = await call("GET", `/v1/jobs/${jobId}/items?${query}`);
      for (const item of page.items) {
        const code = item.error?.code ?? "internal-error";
        const known = codes.get(code) ?? { count: 0, error: item.error };
        known.count++;
        codes.set(code, known);
      }
      seen += page.items.length;
      cursor = page.next_cursor;
    } while (cursor && seen < FAILURES_COUNTED);
  } catch (error) { return complain(error); }
  const lines = [...codes].sort((a, b) => b[1].count - a[1].count).map(([code, { count, error }]) =>
    make("li", {}, make("b", {}, count.toLocaleString()), " × ", make("code", {}, code), " – ", error?.detail ?? "", " ",
      // an image's own error says already what to do
      error && !error.detail.endsWith(error.remedy) && make("span", { class: "remedy" }, error.remedy)));
  byId("failures").replaceChildren(lines.length
    ? make("div", { class: "failures problem" }, make("h2", {}, t("job.failures")), make("ul", {}, lines),
      cursor && make("p", { class: "hint" }, t("job.failures_more", { n: seen.toLocaleString() })))
    : "");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-job-act]");
  if (!button) return;
  const { jobAct, sure } = button.dataset;
  if (sure && !(await ask(t(`job.sure_${sure}`), t(`job.yes_${sure}`)))) return;
  try {
    if (jobAct === "delete") {
      await call("DELETE", `/v1/jobs/${jobId}`);
      location.href = "/console/jobs";
      return;
    }
    const told = await call("POST", `/v1/jobs/${jobId}/${jobAct}`);
    if (jobAct === "retry" && !told.retried) return complain(new Problem({ detail: t("job.retried_none"), remedy: t("job.retried_none_do") }));
    // The stream of events ended with the job; a new page opens a new one.
    if (jobAct === "resume" || jobAct === "retry") {
      while (working) await new Promise((resolve) => setTimeout(resolve, 200));
      return location.reload();
    }
    htmx.trigger("#head", "refresh");
    grid.refresh();
  } catch (error) { complain(error); }
});

function play(item) {
  openPlayer(byId("player"), item, {
    review: `/console/jobs/${jobId}/review?at=${item.id}${grid.which}`,
    redo: document.body.dataset.maySubmit === "yes" ? () => { grid.chooseOnly(item); byId("redo").showModal(); } : null,
  });
}

function showChoice(chosen) {
  byId("chosen").hidden = chosen.size === 0;
  byId("chosen-count").textContent = t("grid.selected", { n: chosen.size.toLocaleString() });
}

// What is done for many images is this page's work: whoever leaves it in the middle is asked.
let working = false;
addEventListener("beforeunload", (event) => { if (working) event.preventDefault(); });

byId("chosen").addEventListener("click", (event) => {
  if (working) return;
  const what = event.target.closest("[data-many]")?.dataset.many;
  if (what === "clear") grid.clear();
  else if (what === "shown") chooseAll();
  else if (what === "zip") download([...grid.chosen.values()]);
  else if (what === "redo") byId("redo").showModal();
  else if (what) judge([...grid.chosen.values()], what);
});

async function chooseAll() {
  byId("chosen-count").textContent = t("grid.loading");
  try {
    if (!(await grid.chooseAll(MOST_CHOSEN))) notify(t("grid.chosen_most", { n: MOST_CHOSEN.toLocaleString() }));
  } catch (error) { complain(error); showChoice(grid.chosen); }
}

const judge = (items, verdict) => each(items, (item) => call("POST", `/v1/items/${item.id}/review`, { verdict }));

byId("redo").addEventListener("close", async () => {
  if (byId("redo").returnValue !== "yes") return;
  byId("redo").returnValue = "";
  const wanted = { options: {} };
  try {
    if (byId("redo-options").value.trim()) wanted.options = JSON.parse(byId("redo-options").value);
  } catch (error) { return complain(new Problem({ detail: t("new.more_wrong", { why: error.message }) })); }
  if (byId("redo-preset").value) wanted.options.preset = byId("redo-preset").value;
  if (byId("redo-model")?.value) wanted.model = byId("redo-model").value;
  await each([...grid.chosen.values()], (item) => call("POST", `/v1/items/${item.id}/redo`, wanted), "grid.redoing_many");
  // New versions tell no event of their own.
  while (grid.waiting) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await grid.refresh();
  }
  htmx.trigger("#head", "refresh"); // a new version has no verdict yet
});

// The same for many images; `work` gives each as it is then, `told` says for how many.
async function each(items, work, told = "grid.done_many") {
  const failed = [];
  let done = 0;
  working = true;
  await inTurn(items, async (item) => {
    byId("chosen-count").textContent = t("grid.working", { n: (done + failed.length).toLocaleString(), total: items.length.toLocaleString() });
    try {
      grid.put(await work(item));
      done++;
    } catch (error) { failed.push(error); }
  });
  working = false;
  if (done) notify(t(told, { n: done.toLocaleString() }));
  if (failed.length) complain(new Problem({ detail: t("grid.failed_many", { n: failed.length, why: failed[0].detail }), remedy: failed[0].remedy }));
  const here = byId("chosen").contains(document.activeElement);
  grid.clear();
  if (here) grid.focus(items.at(-1)); // the button that was pressed goes; the keyboard goes on at its image
  htmx.trigger("#head", "refresh");
}

async function download(items) {
  const mb = Math.ceil(items.reduce((sum, item) => sum + (item.output_bytes ?? 0), 0) / 1e6);
  if (mb > ZIP_LIMIT_MB) return complain(new Problem({ detail: t("grid.zip_large", { mb, limit: ZIP_LIMIT_MB }) }));
  const files = [];
  try {
    await inTurn(items, async (item) => {
      const wanted = item.outputs.length ? item.outputs.map((one) => [one.name, one.url]) : [[resultName(item), result(item)]];
      for (const [name, url] of wanted) {
        const response = await fetch(url);
        if (!response.ok) throw new Problem({ detail: `${name}: ${response.status}` });
        files.push([name, new Uint8Array(await response.arrayBuffer())]);
      }
      byId("chosen-count").textContent = t("grid.zip_progress", { n: files.length, total: items.length });
    });
  } catch (error) { showChoice(grid.chosen); return complain(error); }
  const url = URL.createObjectURL(zip(files));
  make("a", { href: url, download: `${byId("head").dataset.file}.zip` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  showChoice(grid.chosen);
}

const resultName = (item) => `${item.name.replace(/\.[^./]*$/, "")}.${item.result_format}`;

async function inTurn(items, work) {
  const waiting = [...items];
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (waiting.length) await work(waiting.shift());
  }));
}
