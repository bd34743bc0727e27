/** Caches the issuer's keys: refreshed periodically, and when a token names an unknown `kid`. */

import { setTimeout as sleep } from "node:timers/promises";

import { Backoff } from "./backoff.js";
import { describeError, InvalidToken, Unavailable } from "./errors.js";

/** @typedef {Map<string, import("./jwks.js").Key>} Keys */

/** The issuer's keys. Keeps them while the issuer is unreachable, and drops a key that the issuer no longer publishes. */
export class KeyRing {
  #fetch;
  #isRetired;
  #settings;
  /** @type {Keys} */
  #keys = new Map();
  /** @type {Promise<boolean> | undefined} */
  #refreshing;
  #refreshStarted = Number.NEGATIVE_INFINITY;
  #reachable = false;
  #lastError = "not fetched yet";
  /** Ends the pause of {@link KeyRing.run} when aborted. {@link KeyRing.run} replaces it before each refresh. */
  #refreshRequest = new AbortController();
  #closed = false;

  /**
   * Called when the keys were replaced, with a function that reports whether a key is still published.
   *
   * @type {(isPublished: (kid: string) => boolean) => void}
   */
  onReplaced = () => {};

  /**
   * @param {() => Promise<Keys>} fetch
   * @param {(kid: string) => boolean} isRetired reports keys that must not return, even if an HTTP cache still publishes them
   * @param {Readonly<import("./settings.js").Settings>} settings
   */
  constructor(fetch, isRetired, settings) {
    this.#fetch = fetch;
    this.#isRetired = isRetired;
    this.#settings = settings;
  }

  /**
   * The key named `kid`. An unknown `kid` triggers a refresh, at most once per `keysCooldownMs`.
   *
   * @param {string} kid
   * @throws {InvalidToken} if the issuer publishes no such key
   * @throws {Unavailable} if the issuer is unreachable
   */
  async get(kid) {
    if (!this.#keys.has(kid)) {
      const cooledDown = performance.now() - this.#refreshStarted >= this.#settings.keysCooldownMs;
      // To wait for a running refresh costs no further request.
      if (cooledDown || this.#refreshing) await this.#refresh();
    }
    const key = this.#keys.get(kid);
    if (key) return key;
    if (!this.#reachable) throw new Unavailable(`the issuer's keys cannot be fetched: ${this.#lastError}`);
    throw new InvalidToken("unknown_key");
  }

  /**
   * Whether the issuer published the key at the last refresh, and it is not retired.
   *
   * @param {string} kid
   */
  has(kid) {
    return this.#keys.has(kid);
  }

  /**
   * Drops a key at once, and requests a refresh.
   *
   * @param {string} kid
   */
  retire(kid) {
    this.#keys.delete(kid);
    this.requestRefresh();
  }

  /** Makes {@link KeyRing.run} refresh the keys soon. */
  requestRefresh() {
    this.#refreshRequest.abort();
  }

  /**
   * Refreshes the keys now and every `keysMaxAgeMs`.
   *
   * @param {AbortSignal} closing The signal that ends the refreshes.
   */
  async run(closing) {
    const backoff = new Backoff();
    const stop = () => {
      this.#closed = true;
      // Ends the pause between two refreshes, and with it the loop.
      this.requestRefresh();
    };
    closing.addEventListener("abort", stop, { once: true });
    while (!closing.aborted) {
      this.#refreshRequest = new AbortController();
      const reached = await this.#refresh();
      if (reached) backoff.reset();
      const delay = reached ? this.#settings.keysMaxAgeMs : backoff.nextDelay();
      const { signal: requested } = this.#refreshRequest;
      await pause(delay, requested);
      // A refresh on request is delayed, too, so that repeated requests do not cause a burst.
      if (requested.aborted) await pause(backoff.nextDelay(), closing);
    }
  }

  /** Refreshes the keys and reports whether the issuer was reached. All callers share a running refresh. */
  #refresh() {
    if (!this.#refreshing) {
      this.#refreshStarted = performance.now();
      this.#refreshing = this.#load().finally(() => {
        this.#refreshing = undefined;
      });
    }
    return this.#refreshing;
  }

  /** Fetches the keys, keeps the former ones if that fails, and reports whether the issuer was reached. */
  async #load() {
    try {
      const keys = await this.#fetch();
      this.#keys = new Map([...keys].filter(([kid]) => !this.#isRetired(kid)));
      this.#reachable = true;
      this.onReplaced((kid) => this.#keys.has(kid));
    } catch (error) {
      this.#reachable = false;
      this.#lastError = describeError(error);
      // Closing cancels the running request, which is no failure.
      if (!this.#closed) this.#settings.log(`the issuer's keys cannot be fetched: ${this.#lastError}`);
    }
    return this.#reachable;
  }
}

/**
 * Waits for `ms` milliseconds, or until `signal` aborts. Does not keep the process running.
 *
 * @param {number} ms
 * @param {AbortSignal} signal
 */
export async function pause(ms, signal) {
  const wait = sleep(ms, undefined, { signal, ref: false });
  // Rejects only because of the signal.
  await wait.catch(() => {});
}
