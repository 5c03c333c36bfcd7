// Stores verdicts in their order, behind the back of a person who is faster than the network.
import { call } from "./api.js";
import { complain } from "./notices.js";

const AGAIN_MS = 2000;

export class Verdicts {
  // `stored` gets the item as the service has it; `refused` the item that it did not take.
  constructor({ stored, refused, waiting }) { Object.assign(this, { stored, refused, waiting, queue: [], busy: false }); }

  get unsent() { return this.queue.length; }

  put(item, verdict, note) {
    this.queue.push({ item, verdict, note });
    this.#work();
  }

  async #work() {
    if (this.busy) return;
    this.busy = true;
    while (this.queue.length) {
      const { item, verdict, note } = this.queue[0];
      try {
        const told = await call("POST", `/v1/items/${item.id}/review`, { verdict, note });
        this.queue.shift();
        this.stored(told);
      } catch (error) {
        complain(error);
        // Away, busy or signed out: it stays. Anything else would be refused again.
        if (error.status === 0 || error.status === 401 || error.status === 429 || error.status >= 500) {
          this.waiting(this.queue.length);
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        } else { this.queue.shift(); this.refused(item); }
      }
    }
    this.busy = false;
    this.waiting(0);
  }
}
