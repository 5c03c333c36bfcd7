// Webhooks and their deliveries; API keys are made and revoked.
import { call } from "./api.js";
import { byId, make } from "./elements.js";
import { ask, complain, notify } from "./notices.js";
import { t } from "./texts.js";

const maySubmit = document.body.dataset.maySubmit === "yes";

const act = (work) => async () => { try { await work(); await show(); } catch (error) { complain(error); } };
const button = (name, work) => make("button", { type: "button", onclick: act(work) }, t(name));
const cell = (name, ...children) => make("td", { "data-label": t(name) }, children);
const table = (names, rows) => make("table", { class: "plain" },
  make("thead", {}, make("tr", {}, names.map((name) => make("th", { scope: "col" }, name ? t(name) : make("span", { class: "away" }, t("jobs.state")))))), make("tbody", {}, rows));

async function show() {
  const [{ webhooks }, { deliveries }] = await Promise.all([call("GET", "/v1/webhooks"), call("GET", "/v1/deliveries?limit=20")]);
  byId("webhooks").replaceChildren(webhooks.length ? table(["system.address", "system.events", "system.state", ""], webhooks.map((one) => make("tr", {},
    cell("system.address", make("code", {}, one.url)),
    cell("system.events", one.events.join(", ")),
    cell("system.state", make("span", { class: `state ${one.enabled ? "finished" : "paused"}` }, one.enabled ? t("system.on") : t("system.off", { why: one.disabled_reason }))),
    make("td", {}, maySubmit && make("div", { class: "actions" },
      one.enabled && button("system.test", async () => { await call("POST", `/v1/webhooks/${one.id}/test`); setTimeout(show, 1000); }),
      button(one.enabled ? "system.turn_off" : "system.turn_on", () => call("PATCH", `/v1/webhooks/${one.id}`, { enabled: !one.enabled })),
      button("system.remove", async () => { if (await ask(t("system.sure_remove"), t("system.yes_remove"))) await call("DELETE", `/v1/webhooks/${one.id}`); })))))) : make("p", {}, t("system.webhooks_none")));
  const addresses = new Map(webhooks.map((one) => [one.id, one.url]));
  byId("deliveries").replaceChildren(deliveries.length ? table(["system.event", "system.address", "system.state", "system.attempts", "system.said", "system.when", ""], deliveries.map((one) => make("tr", {},
    cell("system.event", one.event), cell("system.address", make("code", {}, addresses.get(one.webhook_id) ?? one.webhook_id)),
    cell("system.state", make("span", { class: `state ${{ delivered: "finished", failed: "failed" }[one.status] ?? "accepted"}` }, one.status)),
    cell("system.attempts", String(one.attempts)), cell("system.said", one.log.length ? `${one.log.at(-1).http_status ?? ""} ${one.log.at(-1).detail}` : "–"),
    cell("system.when", make("time", { datetime: one.created_at }, new Date(one.created_at).toLocaleString())),
    make("td", {}, maySubmit && button("system.again", async () => { await call("POST", `/v1/deliveries/${one.id}/redeliver`); notify(t("system.again_done")); }))))) : make("p", { class: "hint" }, t("system.deliveries_none")));
}

byId("add-webhook")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const made = await call("POST", "/v1/webhooks", { url: byId("address").value });
    byId("secret").textContent = t("system.secret", { secret: made.secret });
    byId("address").value = "";
    await show();
  } catch (error) { complain(error); }
});

// A new key's secret is shown once, outside of the list that is loaded again.
byId("new-key")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, value = (name) => form.elements[name].value.trim();
  const wanted = { name: value("name"), scopes: value("scopes").split(" ") };
  for (const name of ["images_per_month", "requests_per_min"]) if (value(name)) wanted[name] = Number(value(name));
  if (value("source")) wanted.sources = [value("source")];
  try {
    const made = await call("POST", "/v1/keys", wanted);
    byId("new-secret").hidden = false;
    byId("new-secret").replaceChildren(t("system.key_secret", { name: made.name }), " ", make("code", {}, made.key), " ",
      make("button", { type: "button", onclick: () => (navigator.clipboard?.writeText(made.key) ?? Promise.reject()).then( /* without TLS browsers have none */() => notify(t("system.copied")), () => getSelection().selectAllChildren(byId("new-secret").querySelector("code"))) }, t("system.copy")));
    form.reset();
    form.closest("details").open = false;
    byId("new-secret").scrollIntoView({ block: "nearest" });
    htmx.trigger("#keys", "refresh");
  } catch (error) { complain(error); }
});

byId("keys")?.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-revoke]");
  if (!button) return;
  const { revoke, name, own } = button.dataset;
  if (!(await ask(t(own === "yes" ? "system.sure_revoke_own" : "system.sure_revoke", { name }), t("system.yes_revoke")))) return;
  try {
    await call("POST", `/v1/keys/${revoke}/revoke`);
    htmx.trigger("#keys", "refresh");
  } catch (error) { complain(error); }
});

show().catch(complain);
