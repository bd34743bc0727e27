/** Delays between retries: exponential, with jitter. */

const FIRST_MS = 100;
const MAXIMUM_MS = 5_000;

/** Delays that double up to a maximum. Jitter keeps many verifiers from retrying at the same moment. */
export class Backoff {
  #stepMs = FIRST_MS;

  /** Returns a random delay between half the current step and the whole step, in milliseconds, and doubles the step. */
  nextDelay() {
    const stepMs = this.#stepMs;
    this.#stepMs = Math.min(stepMs * 2, MAXIMUM_MS);
    return stepMs * (0.5 + Math.random() / 2);
  }

  /** Returns to the first step. Callers call it after a success. */
  reset() {
    this.#stepMs = FIRST_MS;
  }
}
