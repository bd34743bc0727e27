/** What has been revoked and could still have a live token: a bounded memory. */

import { Malformed } from "./errors.js";

/**
 * @typedef {{ kind: "session", session: string }
 *   | { kind: "account", account: string, before: number, except: string | undefined }
 *   | { kind: "key", kid: string }} Revocation One session; all sessions of an account that began before a second, but perhaps
 *   one; or all that a key has signed.
 */

/** @typedef {Extract<Revocation, { kind: "account" }>} AccountRevocation */

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/**
 * The revocation that an event's data tells of.
 *
 * @param {Record<string, unknown>} data
 * @returns {Revocation}
 * @throws {Malformed} for a kind that isn't known, which must be taken for a gap, and for what lacks a member
 */
export function readRevocation(data) {
  switch (data.kind) {
    case "session":
      return { kind: "session", session: text(data.session_id) };
    case "account": {
      const except = data.except_session_id === undefined ? undefined : text(data.except_session_id);
      return { kind: "account", account: text(data.account_id), before: second(text(data.before)), except };
    }
    case "key":
      return { kind: "key", kid: text(data.kid) };
    default:
      throw new Malformed("a kind of revocation that isn't known");
  }
}

/** @param {unknown} value */
function text(value) {
  if (typeof value !== "string" || value === "") throw new Malformed("a revocation that can't be read");
  return value;
}

/** @param {string} value */
function second(value) {
  const time = TIME.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(time)) throw new Malformed("a revocation that can't be read");
  return Math.floor(time / 1000);
}

/** Revocations, each kept for a time after it was heard of, up to a number. Times are monotonic milliseconds. */
export class Revocations {
  #maxEntries;
  /** When each was heard of last, and what it is; the oldest first. @type {Map<string, { revocation: Revocation, at: number }>} */
  #heard = new Map();
  /** @type {Map<string, Map<string, AccountRevocation>>} */
  #accounts = new Map();
  /** When one had to be left out last. @type {number | undefined} */
  #overflown;

  /**
   * @param {number} maxEntries
   * @param {number} retainMs how long each is kept, at the least
   */
  constructor(maxEntries, retainMs) {
    this.#maxEntries = maxEntries;
    this.retainMs = retainMs;
  }

  /** How many are remembered. */
  get size() {
    return this.#heard.size;
  }

  /**
   * Remembers it. Where the memory is full it is left out, and {@link Revocations.isComplete} says so.
   *
   * @param {Revocation} revocation
   * @param {number} now
   */
  add(revocation, now) {
    this.expire(now);
    const name = nameOf(revocation);
    this.#heard.delete(name);
    if (this.#heard.size >= this.#maxEntries) {
      this.#overflown = now;
      return;
    }
    this.#heard.set(name, { revocation, at: now });
    if (revocation.kind === "account") {
      const others = this.#accounts.get(revocation.account) ?? new Map();
      this.#accounts.set(revocation.account, others.set(name, revocation));
    }
  }

  /**
   * Drops those that no living token can be touched by any more.
   *
   * @param {number} now
   */
  expire(now) {
    for (const [name, { revocation, at }] of this.#heard) {
      if (at + this.retainMs >= now) break;
      this.#heard.delete(name);
      if (revocation.kind === "account") {
        const others = this.#accounts.get(revocation.account);
        others?.delete(name);
        if (others?.size === 0) this.#accounts.delete(revocation.account);
      }
    }
    if (this.#overflown !== undefined && this.#overflown + this.retainMs < now) this.#overflown = undefined;
  }

  /**
   * Whether nothing that matters was left out for want of room.
   *
   * @param {number} now
   */
  isComplete(now) {
    this.expire(now);
    return this.#overflown === undefined;
  }

  /**
   * Whether a token that this key signed and that says this has been revoked.
   *
   * @param {string} kid
   * @param {import("./claims.js").Claims} claims
   */
  ends(kid, { sub, sid, authTime }) {
    if (this.endsKey(kid)) return true;
    // who has no session has none that could end; a service client's name is nobody's account
    if (sid === undefined || authTime === undefined) return false;
    if (this.#heard.has(nameOf({ kind: "session", session: sid }))) return true;
    return [...(this.#accounts.get(sub)?.values() ?? [])].some(({ before, except }) => authTime < before && sid !== except);
  }

  /**
   * Whether the key was taken out of use.
   *
   * @param {string} kid
   */
  endsKey(kid) {
    return this.#heard.has(nameOf({ kind: "key", kid }));
  }
}

/** @param {Revocation} revocation */
function nameOf(revocation) {
  switch (revocation.kind) {
    case "session":
      return `s ${revocation.session}`;
    case "key":
      return `k ${revocation.kid}`;
    case "account":
      return `a ${revocation.account} ${revocation.before} ${revocation.except ?? ""}`;
  }
}
