// Notices at the corner of the page, and questions before what can't be undone.
import { byId, make } from "./elements.js";
import { t } from "./texts.js";

const STAYS_MS = 6000;

export function notify(text) {
  const notice = make("div", { class: "notice" }, make("div", {}, text));
  byId("notices").append(notice);
  setTimeout(() => notice.remove(), STAYS_MS);
}

// The service answered: what said that the session had ended, or that nothing answers, goes.
export function answered() {
  for (const notice of document.querySelectorAll("#notices [data-passing]")) notice.remove();
}

export function complain(error) {
  // An error stays until it is closed: its remedy takes time to read.
  const [said, remedy] = [error.detail ?? error.message, error.remedy ?? ""];
  for (const shown of byId("notices").querySelectorAll(".bad")) {
    if (shown.dataset.said === said) return;
  }
  const notice = make("div", { class: "notice bad", role: "alert", "data-said": said, "data-passing": error.passing },
    make("div", {}, make("p", {}, said), make("p", { class: "remedy" }, remedy),
      error.link ? make("a", { href: error.link, target: "_blank" }, t("error.session_link")) : null),
    make("button", { class: "plain", onclick: () => notice.remove() }, t("error.close")));
  byId("notices").append(notice);
}

export function ask(question, yes, { danger = true, no = t("job.no") } = {}) {
  return new Promise((resolve) => {
    const dialog = make("dialog", { "aria-label": question },
      make("p", {}, question),
      make("form", { method: "dialog", class: "actions" },
        make("button", { value: "no" }, no),
        make("button", { value: "yes", class: danger ? "danger" : "main" }, yes)));
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
