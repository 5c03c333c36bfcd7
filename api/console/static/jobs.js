// Search in the list of jobs: an id opens its job; a word is looked for in the newest jobs.
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
    else await look(word.toLowerCase());
  } catch (error) { complain(error); }
});

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

async function look(word) {
  const found = [];
  let seen = 0;
  for await (const jobs of pages("/v1/jobs", { limit: 200 }, "jobs")) {
    for (const job of jobs) {
      const said = Object.entries(job.metadata).map(([name, value]) => `${name} ${value}`).join(" ");
      if (`${job.id} ${said}`.toLowerCase().includes(word)) found.push([job, said]);
    }
    seen += jobs.length;
    if (seen >= NEWEST || found.length >= 20) break;
  }
  byId("found").replaceChildren(make("section", { class: "card" },
    make("p", {}, t(found.length ? "jobs.searched" : "jobs.not_found", { n: seen.toLocaleString() })),
    make("ul", {}, found.map(([job, said]) => make("li", {},
      make("a", { href: `/console/jobs/${job.id}` }, said || job.id), " ",
      make("span", { class: `state ${job.status}` }, t(`status.${job.status}`)))))));
}
