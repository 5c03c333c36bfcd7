// Search in the list of jobs: by id, by an image's id, by metadata.
import { call, pages } from "./api.js";
import { byId, make } from "./elements.js";
import { complain } from "./notices.js";
import { t } from "./texts.js";

const NEWEST = 1000;
const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;

byId("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const word = byId("q").value.trim();
  if (!word) return byId("found").replaceChildren();
  try {
    if (UUID.test(word)) await open(word);
    else await look(word);
  } catch (error) { complain(error); }
});

// A search that was sent before this script was loaded: the browser has asked for the page with it.
const early = new URLSearchParams(location.search).get("q");
if (early) { byId("q").value = early; byId("search").requestSubmit(); }

async function open(id) {
  try {
    const job = await call("GET", `/v1/jobs/${encodeURIComponent(id)}`);
    location.href = `/console/jobs/${job.id}`;
  } catch (error) {
    if (error.status !== 404) throw error;
    const item = await call("GET", `/v1/items/${encodeURIComponent(id)}`);
    location.href = `/console/jobs/${item.job_id}/review?at=${item.id}`;
  }
}

// A word may be an image's own id; `NAME=VALUE` is looked up in the metadata of all jobs, any other
// word in what the newest jobs say.
async function look(word) {
  const { items } = word.length > 256 ? { items: [] } : await call("GET", `/v1/items?${new URLSearchParams({ custom_id: word, limit: 1 })}`);
  if (items.length) { location.href = `/console/jobs/${items[0].job_id}/review?at=${items[0].id}`; return; }
  if (word.includes("=")) {
    const { jobs } = await call("GET", `/v1/jobs?${new URLSearchParams({ metadata: word, limit: 50 })}`);
    return tell(jobs, t(jobs.length ? "jobs.with" : "jobs.none_with", { word }));
  }
  const found = [];
  let seen = 0;
  for await (const jobs of pages("/v1/jobs", { limit: 200 }, "jobs")) {
    found.push(...jobs.filter((job) => `${job.id} ${said(job)}`.toLowerCase().includes(word.toLowerCase())));
    seen += jobs.length;
    if (seen >= NEWEST || found.length >= 20) break;
  }
  tell(found, t(found.length ? "jobs.searched" : "jobs.not_found", { n: seen.toLocaleString() }));
}

const said = (job) => Object.entries(job.metadata).map(([name, value]) => `${name} ${value}`).join(" ");

function tell(jobs, line) {
  byId("found").replaceChildren(make("section", { class: "card" }, make("p", {}, line),
    make("ul", {}, jobs.map((job) => make("li", {},
      make("a", { href: `/console/jobs/${job.id}` }, said(job) || job.id), " ",
      make("span", { class: `state ${job.status}` }, t(`status.${job.status}`)))))));
}
