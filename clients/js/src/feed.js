/** Follows the revocations of Latchkey: what has ended, and whether what is known here can be trusted. */

import { BackOff } from "./backoff.js";
import { Malformed, textOf } from "./errors.js";
import { pause } from "./keyring.js";
import { readRevocation, Revocations } from "./revocations.js";
import { Parser } from "./sse.js";
import { parseObject } from "./strict-json.js";

/** One follower. It keeps what it knows while it reconnects, and says for how long that can be trusted. */
export class Feed {
  #issuer;
  #settings;
  #known;
  /** A snapshot that is not complete yet. @type {Revocations | undefined} */
  #incoming;
  /** @type {"nothing" | "catching up" | "live"} */
  #stage = "nothing";
  /** The id to resume after. @type {string | undefined} */
  #place;
  /** When all was known last. @type {number | undefined} */
  #heard;
  #backOff = new BackOff();
  #wasLive = false;
  /** @type {Set<() => void>} */
  #waiting = new Set();

  /** Is told of keys that were taken out of use. @type {(kid: string) => void} */
  onKey = () => {};
  /** Is told when a connection after the first has caught up. @type {() => void} */
  onLive = () => {};

  /**
   * @param {import("./issuer.js").Issuer} issuer
   * @param {Readonly<import("./settings.js").Settings>} settings
   */
  constructor(issuer, settings) {
    this.#issuer = issuer;
    this.#settings = settings;
    this.#known = new Revocations(settings.maxRevocations, 0);
  }

  /**
   * Whether the token is known to have been revoked.
   *
   * @param {string} kid
   * @param {import("./claims.js").Claims} claims
   */
  ends(kid, claims) {
    return this.#known.ends(kid, claims);
  }

  /**
   * Whether the key is known to have been taken out of use.
   *
   * @param {string} kid
   */
  endsKey(kid) {
    return this.#known.endsKey(kid) || (this.#incoming?.endsKey(kid) ?? false);
  }

  /** Whether everything that was revoked longer ago than `maxStalenessMs` is known here. */
  isTrusted() {
    const now = performance.now();
    const fresh = this.#heard !== undefined && now - this.#heard < this.#settings.maxStalenessMs;
    return fresh && this.#known.isComplete(now);
  }

  /**
   * Waits until the first snapshot is complete, or so long; says whether it is.
   *
   * @param {number} timeoutMs
   * @returns {Promise<boolean>}
   */
  waitLive(timeoutMs) {
    if (this.#wasLive) return Promise.resolve(true);
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve(this.#wasLive);
      };
      const timer = setTimeout(done, timeoutMs);
      this.#waiting.add(done);
    });
  }

  /**
   * Connects again and again.
   *
   * @param {AbortSignal} closing ends it
   */
  async follow(closing) {
    while (!closing.aborted) {
      try {
        await this.#connect(closing);
        this.#settings.log("the feed has ended; connecting again");
      } catch (error) {
        if (!closing.aborted) this.#settings.log(`the feed is interrupted: ${textOf(error)}`);
      }
      await pause(this.#backOff.wait(), closing);
    }
    for (const done of [...this.#waiting]) done();
  }

  /** @param {AbortSignal} closing */
  async #connect(closing) {
    const connection = new AbortController();
    const end = () => connection.abort();
    closing.addEventListener("abort", end, { once: true });
    const silence = () => connection.abort(new Malformed("the feed is silent"));
    const { maxStalenessMs, requestTimeoutMs } = this.#settings;
    let watch = setTimeout(silence, Math.min(maxStalenessMs, requestTimeoutMs)).unref();
    try {
      const reader = await this.#issuer.feed(this.#place, connection.signal);
      [this.#stage, this.#incoming] = ["nothing", undefined];
      clearTimeout(watch);
      watch = setTimeout(silence, maxStalenessMs).unref();
      const parser = new Parser();
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        for (const event of parser.feed(next.value)) {
          this.#take(event);
          // comments don't count: only events show that the node is there and in step
          watch.refresh();
        }
      }
    } finally {
      clearTimeout(watch);
      closing.removeEventListener("abort", end);
      connection.abort();
    }
  }

  /** @param {import("./sse.js").Event} event */
  #take(event) {
    try {
      this.#apply(event);
    } catch (error) {
      this.#distrust();
      throw new Malformed(`an event of type ${JSON.stringify(event.type.slice(0, 32))} that can't be understood: ${textOf(error)}`);
    }
  }

  /** @param {import("./sse.js").Event} event */
  #apply({ type, data, id }) {
    const now = performance.now();
    if (type === "snapshot") {
      // what was known goes on counting until the snapshot is complete
      [this.#stage, this.#place] = ["catching up", undefined];
      this.#incoming = new Revocations(this.#settings.maxRevocations, this.#retain(data));
    } else if (type === "resumed" && this.#stage === "nothing" && this.#place !== undefined) {
      this.#stage = "catching up";
      this.#known.retainMs = this.#retain(data);
    } else if (type === "revocation") {
      this.#revoke(readRevocation(parseObject(data)), now);
    } else if (type === "live" && this.#stage === "catching up") {
      this.#catchUp();
      [this.#heard, this.#place] = [now, id];
    } else if (type === "heartbeat" && this.#stage === "live") {
      [this.#heard, this.#place] = [now, id];
    } else if (type === "resumed" || type === "live") {
      throw new Malformed("nothing led up to it");
    } else if (type === "gap") {
      this.#settings.log("the feed has a gap; waiting for a snapshot");
      this.#stage = "nothing";
      this.#distrust();
    }
  }

  #catchUp() {
    if (this.#incoming) [this.#known, this.#incoming] = [this.#incoming, undefined];
    this.#stage = "live";
    this.#backOff.reset();
    if (this.#wasLive) this.onLive();
    this.#wasLive = true;
    for (const done of [...this.#waiting]) done();
  }

  /**
   * @param {import("./revocations.js").Revocation} revocation
   * @param {number} now
   */
  #revoke(revocation, now) {
    this.#known.add(revocation, now);
    this.#incoming?.add(revocation, now);
    if (revocation.kind === "key") this.onKey(revocation.kid);
  }

  #distrust() {
    this.#place = this.#heard = undefined;
  }

  /** @param {string} data */
  #retain(data) {
    const { retain_seconds: seconds } = parseObject(data);
    if (typeof seconds !== "number" || !(seconds > 0 && seconds < 1e9)) throw new Malformed("retain_seconds is no time");
    return seconds * 1000 + this.#settings.leewayMs;
  }
}
