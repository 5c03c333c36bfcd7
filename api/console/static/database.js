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
  #read() { return this.database.transaction(this.name, "readonly").objectStore(this.name); }

  // Ends when the change is stored: a page that is left earlier loses it, and a lack of room may
  // show only then.
  async #write(ask) {
    const transaction = this.database.transaction(this.name, "readwrite");
    const written = new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
    });
    ask(transaction.objectStore(this.name));
    return written;
  }

  get(key) { return done(this.#read().get(key)); }
  put(key, value) { return this.#write((store) => store.put(value, key)); }
  delete(key) { return this.#write((store) => store.delete(key)); }
  clear() { return this.#write((store) => store.clear()); }
  keys() { return done(this.#read().getAllKeys()); }
  all() { return done(this.#read().getAll()); }
}
