// Sends files straight to the storage by presigned URLs, in parallel. Each file waits in this
// browser's database until it was sent, so that a reload loses nothing.
import { call, offline, Problem } from "./api.js";
import { openDatabase, Store, STORES } from "./database.js";
import { t } from "./texts.js";

const AT_ONCE = 4;
const URLS_AT_ONCE = 100;
const TRIES = 4;
const KEPT_BYTES = 2e9; // of copies in the database; larger sets are dropped again after a reload
const PHOTO = /\.(jpe?g|jfif|png|webp|bmp|tiff?|avif|hei[cf]|dng|psd)$/i;
const CLIP = /\.(mp4|m4v|mov|qt|webm|mkv|gif)$/i;
const LIST = /\.(zip|csv|jsonl|ndjson|xml|tsv)$/i;
const HIDDEN = /^(\.|thumbs\.db$|desktop\.ini$|__macosx)/i;

const PATIENCE_MS = 1500; // a page that was reloaded gives its lock back a moment later

// Whether a file is called like a clip; the service goes by the same endings.
export const isClip = (name) => CLIP.test(name);

// Whether no other tab sends these files: two would send each file twice.
function alone(name) {
  if (!navigator.locks) return true; // without TLS browsers have none
  return new Promise((resolve) => {
    navigator.locks.request(name, { signal: AbortSignal.timeout(PATIENCE_MS) }, () => { resolve(true); return new Promise(() => {}); })
      .catch(() => resolve(false));
  });
}

export class Uploads {
  // `changed` is called whenever there is something to show.
  static async open(key, maxBytes, maxClipBytes, changed) {
    const database = await openDatabase(key, STORES);
    const uploads = new Uploads();
    Object.assign(uploads, { files: new Store(database, "files"), draft: new Store(database, "draft"), maxBytes, maxClipBytes, changed,
      records: new Map(), leftOut: [], running: 0, kept: 0, urls: [], failedWhy: null });
    uploads.mine = await alone(`matting-new-${key}`);
    for (const record of uploads.mine ? await uploads.files.all() : []) {
      uploads.records.set(record.name, record);
      if (record.blob) uploads.kept += record.size;
    }
    uploads.work();
    return uploads;
  }

  get all() { return [...this.records.values()]; }
  get waiting() { return this.all.filter((one) => !one.sent && !one.failed); }
  get missing() { return this.all.filter((one) => !one.sent && !one.blob && !one.file); }
  get failed() { return this.all.filter((one) => one.failed); }
  get complete() { return this.records.size > 0 && this.all.every((one) => one.sent); }
  get sentBytes() { return this.all.reduce((sum, one) => sum + (one.sent ? one.size : one.progress ?? 0), 0); }
  get bytes() { return this.all.reduce((sum, one) => sum + one.size, 0); }

  // `found`: [path, File] each.
  async add(found) {
    const lists = found.filter(([, file]) => LIST.test(file.name));
    for (const [path, file] of found) {
      const why = this.#refusal(path, file, lists, found);
      if (why) { this.leftOut.push([path, why]); continue; }
      const known = this.records.get(path);
      if (known && known.size === file.size && known.modified === file.lastModified) {
        if (!known.sent) { known.file = file; known.failed = false; }
        continue;
      }
      if (known) {
        this.leftOut.push([path, t("new.replaced")]);
        if (known.blob) this.kept -= known.size;
      }
      const record = { name: path, size: file.size, modified: file.lastModified, sent: false, kind: LIST.test(file.name) ? listKind(file.name) : "photo" };
      if (this.kept + file.size <= KEPT_BYTES) { record.blob = file; this.kept += file.size; }
      this.records.set(path, record);
      record.file = file;
      await this.#keep(record);
      this.work();
    }
    this.changed();
    this.work();
  }

  #refusal(path, file, lists, found) {
    const name = path.split("/").at(-1);
    if (path.split("/").some((part) => HIDDEN.test(part))) return t("new.hidden");
    if (!PHOTO.test(name) && !isClip(name) && !LIST.test(name) && !file.type.startsWith("image/")) return t("new.not_photo");
    if (!file.size) return t("new.is_empty");
    const isList = LIST.test(name);
    if (isList && (lists.length > 1 || found.length > lists.length || this.all.some((one) => one.kind === "photo"))) return t("new.with_list");
    if (!isList && this.all.some((one) => one.kind !== "photo")) return t("new.with_list");
    const most = isClip(name) ? this.maxClipBytes : this.maxBytes;
    if (!isList && file.size > most) return t("new.too_large", { mb: Math.round(most / 2 ** 20) });
    return null;
  }

  // What the database holds: the record without what lives in this page only.
  async #keep({ file, progress, busy, failed, ...stored }) {
    try { await this.files.put(stored.name, stored); } catch {
      // no room in this browser: the file is sent, and asked for again after a reload
      const { blob, ...light } = stored;
      await this.files.put(stored.name, light);
    }
  }

  work() {
    while (this.running < AT_ONCE) {
      const next = this.all.find((one) => !one.sent && !one.busy && !one.failed && (one.file || one.blob));
      if (!next) break;
      next.busy = true;
      this.running++;
      this.#send(next).finally(() => { next.busy = false; this.running--; this.changed(); this.work(); });
    }
  }

  async #send(record) {
    for (let attempt = 1; ; attempt++) {
      try {
        const place = await this.#place();
        await put(place.url, record.file ?? record.blob, (bytes) => { record.progress = bytes; this.changed(); });
        if (this.records.get(record.name) !== record) return; // removed meanwhile
        const sent = { sent: true, upload: place.upload, blob: undefined };
        // First, so that a reload sends nothing again that counts as sent. Without room it does.
        await this.#keep({ ...record, ...sent }).catch(() => {});
        if (record.blob) this.kept -= record.size;
        Object.assign(record, sent);
        record.file = record.kind === "photo" ? record.file : undefined;
        return;
      } catch (error) {
        record.progress = 0;
        if (error.status === 403 && !error.code) this.urls = []; // too old, as after a night's sleep
        if (attempt >= TRIES || error.status === 401 || error.status === 403 && error.code) {
          record.failed = true;
          this.failedWhy = error;
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
      }
    }
  }

  async #place() {
    if (!this.urls.length) {
      const count = Math.max(1, Math.min(URLS_AT_ONCE, this.waiting.length));
      this.asking ??= call("POST", "/v1/uploads", { count }).then(({ uploads }) => { this.urls.push(...uploads); })
        .finally(() => { this.asking = null; });
      await this.asking;
      return this.#place();
    }
    return this.urls.pop();
  }

  again() {
    for (const record of this.failed) record.failed = false;
    this.failedWhy = null;
    this.changed();
    this.work();
  }

  async forget() {
    this.records.clear();
    Object.assign(this, { leftOut: [], kept: 0, failedWhy: null });
    await this.files.clear();
    await this.draft.clear();
    this.changed();
  }

  // The `source` of the job; null while nothing is there.
  get source() {
    const records = this.all;
    if (!records.length) return null;
    if (records[0].kind !== "photo") return { [records[0].kind]: records[0].upload };
    return { uploads: records.map(({ upload, name }) => ({ upload, name })) };
  }
}

const listKind = (name) => (/\.zip$/i.test(name) ? "zip" : "manifest");

// One file with its progress; fetch can't tell how much was sent.
export function put(url, blob, onProgress) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("PUT", url);
    sending.upload.onprogress = (event) => onProgress(event.loaded);
    sending.onload = () => (sending.status < 300 ? resolve() : reject(new Problem({ status: sending.status, code: "", detail: `${sending.status} ${sending.statusText}` })));
    sending.onerror = () => reject(offline());
    sending.send(blob);
  });
}
