/** How long to wait between tries: longer each time, and never the same as everybody else. */

const FIRST_MS = 100;
const MOST_MS = 5_000;

/** Doubles. Each wait is drawn from the upper half, so that many don't come at once. */
export class BackOff {
  #next = FIRST_MS;

  /** How long to wait now, in milliseconds. */
  wait() {
    const now = this.#next;
    this.#next = Math.min(now * 2, MOST_MS);
    return now * (0.5 + Math.random() / 2);
  }

  /** It went well: the next wait is the first one again. */
  reset() {
    this.#next = FIRST_MS;
  }
}
