// A clip: its player, and buttons that lead to its times of doubt.
import { make } from "./elements.js";
import { plays, result, sent, thumbnail } from "./pictures.js";
import { t } from "./texts.js";

const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const video = (item, attributes) => make("video", { controls: true, loop: true, muted: true, playsinline: true, preload: "metadata", "aria-label": item.name, ...attributes });

// The result as a player; null: no browser plays its format.
export const player = (item) => plays(item) ? video(item, { class: "film", src: result(item), poster: thumbnail(item) }) : null;

// The clip as it was sent, from the storage: it may be large, and its player asks for parts of it.
export const sentClip = (item) => video(item, { src: sent(item), preload: "none" });

// Times at which a person should look, as buttons that lead there; null: there are none. `film`: the
// player; without one they are only named.
export function doubts(item, film) {
  if (!item.clip?.doubts.length) return null;
  return make("div", { class: "doubts", role: "group", "aria-label": t("clip.doubts") }, item.clip.doubts.map((one) => {
    const said = `${clock(one.start_s)}–${clock(one.end_s)} ${t(`mark.${one.reason}`)}`, title = t(`reason.${one.reason}`);
    return film ? make("button", { type: "button", class: "mark", title, onclick: () => { film.pause(); film.currentTime = one.start_s; } }, said) : make("span", { class: "mark", title }, said);
  }));
}

// Shows a clip in a dialog. `redo`: does it again with other options; null: the key may not.
export function openPlayer(dialog, item, { review, redo }) {
  const film = player(item);
  film?.classList.add("checks"); // shows what is transparent
  dialog.replaceChildren(
    make("h2", { id: "player-title" }, item.name.split("/").at(-1)),
    film ?? make("img", { class: "film checks", src: item.result_format === "webp" ? result(item) : thumbnail(item), alt: item.name }),
    doubts(item, film) ?? "",
    make("p", { class: "hint" }, film || item.result_format === "webp" ? "" : `${t("clip.not_played", { format: item.result_format })} `, redo ? t("clip.no_brush") : ""),
    make("form", { method: "dialog", class: "actions" },
      make("a", { class: "button", href: result(item), download: true }, t("clip.download")),
      redo && make("button", { type: "button", onclick: () => { dialog.close(); redo(); } }, t("grid.redo")),
      make("a", { class: "button", href: review }, t("clip.review")),
      make("button", { class: "main" }, t("error.close"))));
  dialog.onclose = () => dialog.replaceChildren(); // nothing goes on playing
  dialog.showModal();
}
