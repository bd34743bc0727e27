/** Follows Latchkey's revocation feed, and reports whether the local revocations are up to date. */

import { Backoff } from "./backoff.js";
import { describeError, ProtocolError } from "./errors.js";
import { pause } from "./keyring.js";
import { parseClaimsChange, parseRevocation, RevocationSet } from "./revocations.js";
import { Parser } from "./sse.js";
import { parseObject } from "./strict-json.js";

/** A subscription to the feed. Its revocations stay in force across reconnects. */
export class RevocationFeed {
  #issuer;
  #settings;
  #revocations;
  /** A snapshot that is still being received. @type {RevocationSet | undefined} */
  #snapshot;
  /** @type {"connecting" | "catching up" | "live"} */
  #stage = "connecting";
  /** @type {string | undefined} */
  #lastEventId;
  /** When the node last reported that it had sent everything; undefined after a gap. @type {number | undefined} */
  #syncedAt;
  /** When `#revocations` last held everything that the node had sent. A gap does not reset it. Starts at the creation of the feed. */
  #completeAt = performance.now();
  #backoff = new Backoff();
  /** Whether the feed has been live at least once. */
  #wasLive = false;
  /** Callbacks for the first time that the feed is live, or for the end of the subscription. @type {Set<() => void>} */
  #waiters = new Set();

  /** Called with every revocation and change of claims, also with those that do not fit into memory. @type {(revocation: import("./revocations.js").Revocation) => void} */
  onRevocation = () => {};
  /** Called when a connection after the first has caught up. @type {() => void} */
  onReconnected = () => {};

  /**
   * @param {import("./issuer.js").IssuerClient} issuer
   * @param {Readonly<import("./settings.js").Settings>} settings
   */
  constructor(issuer, settings) {
    this.#issuer = issuer;
    this.#settings = settings;
    // This set need not retain revocations: until the first snapshot is complete, `isCurrent` is false.
    this.#revocations = new RevocationSet(settings.maxRevocations, /* retainMs */ 0);
  }

  /**
   * Why the local revocations refuse the token; undefined if they don't.
   *
   * @param {string | undefined} kid
   * @param {import("./revocations.js").SessionClaims} claims
   */
  causeOf(kid, claims) {
    return this.#revocations.causeOf(kid, claims);
  }

  /**
   * Whether the signing key is retired: by the local revocations, or by a snapshot that is still being received.
   *
   * @param {string} kid
   */
  revokesKey(kid) {
    return this.#revocations.revokesKey(kid) || (this.#snapshot?.revokesKey(kid) ?? false);
  }

  /** The milliseconds since the verifier last had every revocation that the feed had sent. */
  get silentMs() {
    return performance.now() - this.#completeAt;
  }

  /** Whether every revocation older than `maxStalenessMs` is known locally. */
  isCurrent() {
    const now = performance.now();
    const fresh = this.#syncedAt !== undefined && now - this.#syncedAt < this.#settings.maxStalenessMs;
    return fresh && this.#revocations.isComplete(now);
  }

  /**
   * Waits at most `timeoutMs` until the first snapshot is complete. Resolves to whether the snapshot is complete.
   *
   * @param {number} timeoutMs
   * @returns {Promise<boolean>}
   */
  waitLive(timeoutMs) {
    if (this.#wasLive) return Promise.resolve(true);
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        resolve(this.#wasLive);
      };
      const timer = setTimeout(done, timeoutMs);
      this.#waiters.add(done);
    });
  }

  /**
   * Follows the feed until `closing` is aborted, and reconnects after each interruption.
   *
   * @param {AbortSignal} closing The signal that ends the subscription.
   */
  async run(closing) {
    while (!closing.aborted) {
      try {
        await this.#connect(closing);
        this.#settings.log("the revocation feed has ended; reconnecting");
      } catch (error) {
        if (!closing.aborted) this.#settings.log(`the revocation feed is interrupted: ${describeError(error)}`);
      }
      await pause(this.#backoff.nextDelay(), closing);
    }
    for (const done of this.#waiters) done();
  }

  /** @param {AbortSignal} closing */
  async #connect(closing) {
    const connection = new AbortController();
    const onClosing = () => connection.abort();
    closing.addEventListener("abort", onClosing, { once: true });
    const onSilence = () => connection.abort(new ProtocolError("the feed is silent"));
    const { maxStalenessMs, requestTimeoutMs } = this.#settings;
    // Until the response's headers arrive, the timeout of requests applies too.
    let watchdog = setTimeout(onSilence, Math.min(maxStalenessMs, requestTimeoutMs)).unref();
    try {
      const reader = await this.#issuer.openFeed(this.#lastEventId, connection.signal);
      this.#stage = "connecting";
      this.#snapshot = undefined;
      clearTimeout(watchdog);
      watchdog = setTimeout(onSilence, maxStalenessMs).unref();
      const parser = new Parser();
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        for (const event of parser.feed(next.value)) {
          this.#process(event);
          // Only events reset the watchdog. Comments do not show that the node is in sync.
          watchdog.refresh();
        }
      }
    } finally {
      clearTimeout(watchdog);
      closing.removeEventListener("abort", onClosing);
      connection.abort();
    }
  }

  /** @param {import("./sse.js").Event} event */
  #process(event) {
    try {
      this.#apply(event);
    } catch (error) {
      this.#invalidate();
      throw new ProtocolError(`the feed sent an unexpected ${JSON.stringify(event.type.slice(0, 32))} event: ${describeError(error)}`);
    }
  }

  /** @param {import("./sse.js").Event} event */
  #apply({ type, data, id }) {
    const now = performance.now();
    if (type === "snapshot") {
      // The old revocations stay in force until the snapshot is complete. The feed can't resume within a snapshot.
      this.#stage = "catching up";
      this.#lastEventId = undefined;
      this.#snapshot = new RevocationSet(this.#settings.maxRevocations, this.#parseRetain(data));
    } else if (type === "resumed" && this.#stage === "connecting" && this.#lastEventId !== undefined) {
      this.#stage = "catching up";
      this.#revocations.retainMs = this.#parseRetain(data);
    } else if (type === "revocation") {
      this.#add(parseRevocation(parseObject(data)), now);
    } else if (type === "claims") {
      this.#add(parseClaimsChange(parseObject(data)), now);
    } else if (type === "live" && this.#stage === "catching up") {
      this.#complete();
      this.#sync(now, id);
    } else if (type === "heartbeat" && this.#stage === "live") {
      this.#sync(now, id);
    } else if (type === "resumed" || type === "live") {
      throw new ProtocolError("the event is out of order");
    } else if (type === "gap") {
      this.#settings.log("the revocation feed has a gap; waiting for a snapshot");
      this.#stage = "connecting";
      // Then only a snapshot lets the feed catch up.
      this.#invalidate();
    }
    // Unknown events, and heartbeats before the feed is live, are ignored.
  }

  /** Makes the received snapshot effective, and the feed live. */
  #complete() {
    // A resumed feed has sent no snapshot.
    if (this.#snapshot) this.#revocations = this.#snapshot;
    this.#snapshot = undefined;
    this.#stage = "live";
    this.#backoff.reset();
    if (this.#wasLive) this.onReconnected();
    this.#wasLive = true;
    for (const done of this.#waiters) done();
  }

  /**
   * Records that the node has sent everything up to `now`.
   *
   * @param {number} now
   * @param {string | undefined} id the position from which the feed resumes
   */
  #sync(now, id) {
    this.#syncedAt = now;
    // An empty id is no position (HTML, section 9.2.6).
    this.#lastEventId = id || undefined;
    if (this.#revocations.isComplete(now)) this.#completeAt = now;
  }

  /**
   * Adds the revocation to those in force, and to a snapshot that is being received.
   *
   * @param {import("./revocations.js").Revocation} revocation
   * @param {number} now
   */
  #add(revocation, now) {
    this.#revocations.add(revocation, now);
    this.#snapshot?.add(revocation, now);
    this.onRevocation(revocation);
  }

  /** After a gap or an unexpected event: the revocations are not current, and the next connection starts with a snapshot. */
  #invalidate() {
    this.#syncedAt = undefined;
    this.#lastEventId = undefined;
  }

  /**
   * How long revocations are kept, in milliseconds: the event's `retain_seconds` and the leeway.
   *
   * @param {string} data
   */
  #parseRetain(data) {
    const { retain_seconds: seconds } = parseObject(data);
    if (typeof seconds !== "number" || !(seconds > 0 && seconds < 1e9)) throw new ProtocolError("retain_seconds is not a duration");
    return seconds * 1000 + this.#settings.leewayMs;
  }
}
