/** The revocations that can still affect an unexpired token, in bounded memory. */

import { ProtocolError } from "./errors.js";

/**
 * @typedef {{ kind: "session", session: string }
 *   | { kind: "account", account: string, before: number, except: string | undefined }
 *   | { kind: "key", kid: string }} Revocation Ends one session; or the sessions of an account that began before a second, except
 *   perhaps one; or retires a signing key.
 */

/** @typedef {Extract<Revocation, { kind: "account" }>} AccountRevocation */

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/**
 * Parses the data of a `revocation` event.
 *
 * @param {Record<string, unknown>} data
 * @returns {Revocation}
 * @throws {ProtocolError} for an unknown kind, which the caller must treat as a gap, and for a missing member
 */
export function parseRevocation(data) {
  switch (data.kind) {
    case "session":
      return { kind: "session", session: string(data.session_id) };
    case "account": {
      const except = data.except_session_id === undefined ? undefined : string(data.except_session_id);
      return { kind: "account", account: string(data.account_id), before: second(string(data.before)), except };
    }
    case "key":
      return { kind: "key", kid: string(data.kid) };
    default:
      throw new ProtocolError("a revocation event has an unknown kind");
  }
}

/** @param {unknown} value */
function string(value) {
  if (typeof value !== "string" || value === "") throw new ProtocolError("a revocation event is malformed");
  return value;
}

/** @param {string} value */
function second(value) {
  const time = TIME.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(time)) throw new ProtocolError("a revocation event is malformed");
  return Math.floor(time / 1000);
}

/** Revocations in order of receipt, each kept for `retainMs`. Times are monotonic milliseconds. */
export class RevocationSet {
  #maxEntries;
  /** Each revocation and when it was last received; oldest first. @type {Map<string, { revocation: Revocation, at: number }>} */
  #received = new Map();
  /** @type {Map<string, Map<string, AccountRevocation>>} */
  #byAccount = new Map();
  /** When a revocation last did not fit. @type {number | undefined} */
  #overflowed;

  /**
   * @param {number} maxEntries
   * @param {number} retainMs how long a revocation is kept after it was last received
   */
  constructor(maxEntries, retainMs) {
    this.#maxEntries = maxEntries;
    this.retainMs = retainMs;
  }

  /** The number of revocations. */
  get size() {
    return this.#received.size;
  }

  /**
   * Adds a revocation. If the set is full it is dropped, and {@link RevocationSet.isComplete} reports that.
   *
   * @param {Revocation} revocation
   * @param {number} now
   */
  add(revocation, now) {
    this.evictExpired(now);
    const id = idOf(revocation);
    this.#received.delete(id);
    if (this.#received.size >= this.#maxEntries) {
      this.#overflowed = now;
      return;
    }
    this.#received.set(id, { revocation, at: now });
    if (revocation.kind === "account") {
      const ofAccount = this.#byAccount.get(revocation.account) ?? new Map();
      this.#byAccount.set(revocation.account, ofAccount.set(id, revocation));
    }
  }

  /**
   * Evicts revocations that can no longer affect an unexpired token.
   *
   * @param {number} now
   */
  evictExpired(now) {
    for (const [id, { revocation, at }] of this.#received) {
      if (at + this.retainMs >= now) break;
      this.#received.delete(id);
      if (revocation.kind === "account") {
        const ofAccount = this.#byAccount.get(revocation.account);
        ofAccount?.delete(id);
        if (ofAccount?.size === 0) this.#byAccount.delete(revocation.account);
      }
    }
    if (this.#overflowed !== undefined && this.#overflowed + this.retainMs < now) this.#overflowed = undefined;
  }

  /**
   * Whether every revocation that still matters fitted.
   *
   * @param {number} now
   */
  isComplete(now) {
    this.evictExpired(now);
    return this.#overflowed === undefined;
  }

  /**
   * Whether a token with these claims, signed by the key `kid`, is revoked.
   *
   * @param {string} kid
   * @param {Pick<import("./claims.js").Claims, "sub" | "sid" | "authTime">} claims
   */
  revokes(kid, { sub, sid, authTime }) {
    if (this.revokesKey(kid)) return true;
    // A service client's own token has no session. Its `sub` is a client id, never an account.
    if (sid === undefined || authTime === undefined) return false;
    if (this.#received.has(idOf({ kind: "session", session: sid }))) return true;
    return [...(this.#byAccount.get(sub)?.values() ?? [])].some(({ before, except }) => authTime < before && sid !== except);
  }

  /**
   * Whether the signing key is retired.
   *
   * @param {string} kid
   */
  revokesKey(kid) {
    return this.#received.has(idOf({ kind: "key", kid }));
  }
}

/** @param {Revocation} revocation */
function idOf(revocation) {
  switch (revocation.kind) {
    case "session":
      return `s ${revocation.session}`;
    case "key":
      return `k ${revocation.kid}`;
    case "account":
      return `a ${revocation.account} ${revocation.before} ${revocation.except ?? ""}`;
  }
}
