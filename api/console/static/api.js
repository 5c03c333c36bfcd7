// Calls of the public API with the session of the page.
import { sessionWorks } from "./notices.js";
import { t } from "./texts.js";

export const csrfToken = () => document.querySelector('meta[name="csrf-token"]').content;

export class Problem extends Error {
  constructor({ status = 0, code = "offline", detail, remedy = "", link = null }) {
    super(detail);
    Object.assign(this, { status, code, detail, remedy, link });
  }
}

// The problem of a response that is not ok.
export async function problemOf(response) {
  let said = {};
  try { said = await response.json(); } catch { /* a proxy answered, not the service */ }
  if (response.status === 401) {
    const link = "/console/sign-in?ended=1&next=/console/jobs";
    return new Problem({ ...said, status: 401, detail: t("error.session"), remedy: t("error.session_do"), link });
  }
  return new Problem({ ...said, status: response.status, detail: said.detail ?? `${response.status} ${response.statusText}` });
}

export async function request(method, path, { body, headers = {}, signal, again = false } = {}) {
  const sent = { ...headers };
  if (method !== "GET") sent["X-CSRF-Token"] = csrfToken();
  let payload = body;
  if (body !== undefined && !(body instanceof Blob)) {
    payload = JSON.stringify(body);
    sent["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: payload, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ detail: t("error.offline"), remedy: t("error.offline_remedy") });
  }
  if (response.ok) {
    sessionWorks();
    return response;
  }
  const problem = await problemOf(response);
  // After a new sign-in in another tab, this page goes on with the new session's token.
  if (problem.code === "foreign-page" && method !== "GET" && !again && await renewToken()) {
    return request(method, path, { body, headers, signal, again: true });
  }
  throw problem;
}

async function renewToken() {
  const response = await fetch("/console/token", { redirect: "error" }).catch(() => null);
  if (!response?.ok) return false;
  document.querySelector('meta[name="csrf-token"]').content = (await response.json()).csrf_token;
  return true;
}

export async function call(method, path, body, more = {}) {
  const response = await request(method, path, { body, ...more });
  return response.status === 204 ? null : response.json();
}

// All pages of a list, page by page.
export async function* pages(path, query, listName) {
  let cursor = null;
  do {
    const asked = new URLSearchParams({ ...query, ...(cursor ? { cursor } : {}) });
    const page = await call("GET", `${path}?${asked}`);
    yield page[listName];
    cursor = page.next_cursor;
  } while (cursor);
}
