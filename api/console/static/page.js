// What every page does: htmx carries the CSRF token, and its errors become notices.
import { csrfToken, Problem } from "./api.js";
import { complain } from "./notices.js";
import { t } from "./texts.js";

document.body.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = csrfToken();
});
document.body.addEventListener("htmx:beforeRequest", (event) => {
  // Nobody looks at a hidden tab; what is asked for again and again waits until it shows.
  if (document.hidden && event.detail.requestConfig.verb === "get") event.preventDefault();
});
document.body.addEventListener("htmx:sendError", () => {
  complain(new Problem({ detail: t("error.offline"), remedy: t("error.offline_remedy") }));
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
