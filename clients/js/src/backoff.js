/** Delays between retries: exponential, with jitter. */

const FIRST_MS = 100;
const MAXIMUM_MS = 5_000;

/** Doubles the delay up to a maximum. Jitter keeps many verifiers from retrying at the same moment. */
export class Backoff {
  #next = FIRST_MS;

  /** Returns the next delay in milliseconds: a random one between half of the doubled delay and all of it. */
  nextDelay() {
    const step = this.#next;
    this.#next = Math.min(step * 2, MAXIMUM_MS);
    return step * (0.5 + Math.random() / 2);
  }

  /** Returns to the first delay after a success. */
  reset() {
    this.#next = FIRST_MS;
  }
}
