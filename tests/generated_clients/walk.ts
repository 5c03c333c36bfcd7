// Uses the types that openapi-typescript makes of /openapi.json, with openapi-fetch: submits, waits,
// lists, fetches. Its last line is one JSON object.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Job = components["schemas"]["JobOut"];

const TIME_LIMIT_MS = 120_000;

const [url, key] = process.argv.slice(2);
const client = createClient<paths>({
  baseUrl: url,
  headers: { Authorization: `Bearer ${key}` },
  redirect: "manual",
});

async function wait(id: string): Promise<Job> {
  const deadline = Date.now() + TIME_LIMIT_MS;
  while (Date.now() < deadline) {
    const { data, error } = await client.GET("/v1/jobs/{job_id}", {
      params: { path: { job_id: id } },
    });
    if (!data) throw new Error(error.detail);
    if (data.status === "finished" || data.status === "cancelled") return data;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${id} has not ended`);
}

const submitted = await client.POST("/v1/jobs", {
  params: { header: { "Idempotency-Key": "walk-ts" } },
  body: {
    source: { keys: ["s3://photos/walk.jpg"] },
    options: { format: "jpeg", background: "#fff", scale: "80%", canvas: "1:1", shadow: "contact" },
    metadata: { season: "spring" },
  },
});
if (!submitted.data || !("counts" in submitted.data)) throw new Error(JSON.stringify(submitted.error));
const job = await wait(submitted.data.id);
if (job.counts.succeeded !== 1) throw new Error(JSON.stringify(job));

const sizes: Record<string, number> = {};
const { data: items } = await client.GET("/v1/jobs/{job_id}/items", {
  params: { path: { job_id: job.id }, query: { status: "succeeded" } },
});
for (const item of items?.items ?? []) {
  const { response } = await client.GET("/v1/items/{item_id}/result", {
    params: { path: { item_id: item.id } },
  });
  const file = await fetch(response.headers.get("location")!);
  sizes[item.name] = (await file.arrayBuffer()).byteLength;
}

const refused = await client.POST("/v1/jobs", { body: { source: { keys: ["s3://elsewhere/a.jpg"] } } });
console.log(JSON.stringify({ sizes, refused: refused.error?.code }));
