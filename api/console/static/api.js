// Calls of the public API with the session of the page.
import { answered } from "./notices.js";
import { t } from "./texts.js";

export const csrfToken = () => document.querySelector('meta[name="csrf-token"]').content;

export class Problem extends Error {
  // `passing`: the next answer of the service shows that it is over.
  constructor({ status = 0, code = "offline", detail, remedy = "", link = null, passing = false }) {
    super(detail);
    Object.assign(this, { status, code, detail, remedy, link, passing });
  }
}

export const offline = () => new Problem({ detail: t("error.offline"), remedy: t("error.offline_remedy"), passing: true });

// The problem of a response that is not ok.
export async function problemOf(response) {
  let said = {};
  try { said = await response.json(); } catch { /* a proxy answered, not the service */ }
  if (response.status === 401) {
    const link = "/console/sign-in?ended=1&next=/console/jobs";
    return new Problem({ ...said, status: 401, detail: t("error.session"), remedy: t("error.session_do"), link, passing: true });
  }
  return new Problem({ ...said, status: response.status, detail: said.detail ?? `${response.status} ${response.statusText}`, passing: !said.detail });
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
    throw offline();
  }
  if (response.ok) {
    answered();
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
