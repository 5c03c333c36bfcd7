// What every page does: htmx carries the CSRF token, and its errors become notices.
import { csrfToken, offline, Problem } from "./api.js";
import { answered, complain } from "./notices.js";

document.body.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = csrfToken();
});
document.body.addEventListener("htmx:beforeRequest", (event) => {
  // Nobody looks at a hidden tab; what is asked for again and again waits until it shows.
  if (document.hidden && event.detail.requestConfig.verb === "get") event.preventDefault();
});
document.body.addEventListener("htmx:sendError", () => complain(offline()));
document.body.addEventListener("htmx:afterRequest", ({ detail }) => { if (detail.successful) answered(); });
document.body.addEventListener("htmx:responseError", ({ detail: { xhr } }) => {
  if (xhr.status === 404) return location.reload(); // deleted meanwhile: the page itself says so
  const said = new DOMParser().parseFromString(xhr.responseText, "text/html").querySelectorAll(".problem p");
  complain(new Problem({ status: xhr.status, detail: said[0]?.textContent ?? `${xhr.status} ${xhr.statusText}`, remedy: said[1]?.textContent, passing: true }));
});
localTimes(document);
document.body.addEventListener("htmx:afterSettle", (event) => localTimes(event.target));

function localTimes(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(one.dateTime);
    one.textContent = moment.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
    one.title = moment.toISOString();
  }
}
