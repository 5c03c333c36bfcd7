// Cuts out one photo as a job of its own, which is deleted when the next trial or the job begins.
import { call, Problem } from "./api.js";
import { put } from "./uploads.js";

const LOOK_MS = 200;
const PATIENCE_MS = 60_000;
const LAST = "matting.trial";

export async function forgetTrial() {
  const last = localStorage.getItem(LAST); // also of a tab that was closed
  localStorage.removeItem(LAST);
  if (last) await call("DELETE", `/v1/jobs/${last}`).catch(() => {}); // retention removes it else
}

export async function tryOn(blob, name, options) {
  await forgetTrial();
  const began = performance.now();
  const { uploads: [place] } = await call("POST", "/v1/uploads", { count: 1 });
  await put(place.url, blob, () => {});
  const job = await call("POST", "/v1/jobs", { source: { uploads: [{ upload: place.upload, name }] }, options, priority: 9, metadata: { trial: name } });
  localStorage.setItem(LAST, job.id);
  while (performance.now() - began < PATIENCE_MS) {
    const { items: [item] } = await call("GET", `/v1/jobs/${job.id}/items?limit=1`);
    if (item.status === "succeeded") return { item, seconds: ((performance.now() - began) / 1000).toFixed(1) };
    if (item.error && item.status === "failed") throw new Problem({ ...item.error });
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Problem({ detail: `${name}: ${PATIENCE_MS / 1000} s` });
}
