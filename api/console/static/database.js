// Stores of this browser (IndexedDB), one database for each API key.
export function openDatabase(key, stores, version = 1) {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(`matting-${key}`, version);
    asked.onupgradeneeded = () => {
      for (const name of stores) {
        if (!asked.result.objectStoreNames.contains(name)) asked.result.createObjectStore(name);
      }
    };
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

// All stores are made at once, so that two pages agree about the version.
export const STORES = ["files", "draft", "strokes"];

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Store {
  constructor(database, name) { Object.assign(this, { database, name }); }
  #store(mode) { return this.database.transaction(this.name, mode).objectStore(this.name); }
  get(key) { return done(this.#store("readonly").get(key)); }
  put(key, value) { return done(this.#store("readwrite").put(value, key)); }
  delete(key) { return done(this.#store("readwrite").delete(key)); }
  clear() { return done(this.#store("readwrite").clear()); }
  keys() { return done(this.#store("readonly").getAllKeys()); }
  all() { return done(this.#store("readonly").getAll()); }
}
