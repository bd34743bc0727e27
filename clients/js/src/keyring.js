/** The issuer's keys, kept at hand: fetched now and then, and when a token names one that isn't known. */

import { setTimeout as sleep } from "node:timers/promises";

import { BackOff } from "./backoff.js";
import { InvalidToken, textOf, Unavailable } from "./errors.js";

/** @typedef {Map<string, import("./jwks.js").Key>} Keys */

/** Keeps keys while the issuer is away, and lets go of those that it no longer publishes. */
export class KeyRing {
  #fetch;
  #isRetired;
  #settings;
  /** @type {Keys} */
  #keys = new Map();
  /** @type {Promise<boolean> | undefined} */
  #running;
  #began = Number.NEGATIVE_INFINITY;
  #reached = false;
  #wake = new AbortController();

  /**
   * @param {() => Promise<Keys>} fetch
   * @param {(kid: string) => boolean} isRetired tells of keys that must not come back, though a cache in between may still
   *   publish them
   * @param {Readonly<import("./settings.js").Settings>} settings
   */
  constructor(fetch, isRetired, settings) {
    this.#fetch = fetch;
    this.#isRetired = isRetired;
    this.#settings = settings;
  }

  /**
   * The key of this name. An unknown one has the keys fetched, so often and no more.
   *
   * @param {string} kid
   * @throws {InvalidToken} where the issuer has no such key
   * @throws {Unavailable} where it can't be asked
   */
  async require(kid) {
    if (!this.#keys.has(kid)) {
      const inTime = performance.now() - this.#began >= this.#settings.keysCooldownMs;
      if (inTime || this.#running) await this.#refresh();
    }
    const key = this.#keys.get(kid);
    if (key) return key;
    if (!this.#reached) throw new Unavailable("the issuer's keys can't be fetched");
    throw new InvalidToken("its key is not one of the issuer's");
  }

  /**
   * Lets go of a key at once.
   *
   * @param {string} kid
   */
  retire(kid) {
    this.#keys.delete(kid);
    this.look();
  }

  /** Has the keys fetched soon. */
  look() {
    this.#wake.abort();
  }

  /**
   * Fetches the keys now, and again before they get old.
   *
   * @param {AbortSignal} closing ends it
   */
  async keep(closing) {
    const backOff = new BackOff();
    closing.addEventListener("abort", () => this.look(), { once: true });
    while (!closing.aborted) {
      this.#wake = new AbortController();
      const reached = await this.#refresh();
      if (reached) backOff.reset();
      const wait = reached ? this.#settings.keysMaxAgeMs : backOff.wait();
      await pause(wait, this.#wake.signal);
      // even when it is told to look again and again
      if (this.#wake.signal.aborted) await pause(backOff.wait(), closing);
    }
  }

  /** One for all who wait. */
  #refresh() {
    if (!this.#running) {
      this.#began = performance.now();
      this.#running = this.#load().finally(() => {
        this.#running = undefined;
      });
    }
    return this.#running;
  }

  async #load() {
    try {
      const keys = await this.#fetch();
      this.#keys = new Map([...keys].filter(([kid]) => !this.#isRetired(kid)));
      this.#reached = true;
    } catch (error) {
      this.#reached = false;
      this.#settings.log(`the issuer's keys can't be fetched: ${textOf(error)}`);
    }
    return this.#reached;
  }
}

/**
 * Waits so long, or until it is told not to.
 *
 * @param {number} ms
 * @param {AbortSignal} signal
 */
export async function pause(ms, signal) {
  await sleep(ms, undefined, { signal, ref: false }).catch(() => {});
}
