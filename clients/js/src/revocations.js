/** The revocations and changes of claims that can still affect an unexpired token, in bounded memory. */

import { ProtocolError } from "./errors.js";

/**
 * @typedef {{ kind: "session", session: string }
 *   | { kind: "account", account: string, before: number, except: string | undefined }
 *   | { kind: "key", kid: string }
 *   | { kind: "claims", account: string, version: number, at: number }} Revocation `session` ends one session. `account` ends the account's
 *   sessions that began before the time `before`, except the session `except`. `key` retires a signing key. `claims` invalidates the
 *   account's tokens with a version of the claims below `version`, and its tokens without a version that were issued at the time `at`
 *   or before. Both times are whole seconds since 1970.
 */

/** @typedef {Extract<Revocation, { kind: "account" }>} AccountRevocation */
/** @typedef {Extract<Revocation, { kind: "claims" }>} ClaimsChange */
/** @typedef {Pick<import("./claims.js").Claims, "sub" | "sid" | "authTime" | "sessionStart" | "claimsVersion" | "iat">} SessionClaims */
/** @typedef {"key_retired" | "session_revoked" | "account_revoked" | "claims_changed"} RevocationCause Why a token is refused. */

/** A time of RFC 3339. `Date.parse` alone accepts other formats, too. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/**
 * Parses the data of a `revocation` event.
 *
 * @param {Record<string, unknown>} data
 * @returns {Revocation}
 * @throws {ProtocolError} if a member is missing or the kind is unknown. The caller must then assume that it missed a revocation.
 */
export function parseRevocation(data) {
  switch (data.kind) {
    case "session":
      return { kind: "session", session: requiredString(data.session_id) };
    case "account": {
      const except = data.except_session_id === undefined ? undefined : requiredString(data.except_session_id);
      return { kind: "account", account: requiredString(data.account_id), before: parseTime(requiredString(data.before)), except };
    }
    case "key":
      return { kind: "key", kid: requiredString(data.kid) };
    default:
      throw new ProtocolError("a revocation event has an unknown kind");
  }
}

/**
 * Parses the data of a `claims` event.
 *
 * @param {Record<string, unknown>} data
 * @returns {ClaimsChange}
 * @throws {ProtocolError} if a member is missing or malformed
 */
export function parseClaimsChange(data) {
  const version = data.claims_version;
  if (typeof version !== "number" || !Number.isSafeInteger(version) || version < 0) {
    throw new ProtocolError("a claims event is malformed");
  }
  return { kind: "claims", account: requiredString(data.account_id), version, at: parseTime(requiredString(data.at)) };
}

/**
 * Whether an account-wide revocation ends the session of these claims. Tokens of Latchkey 0.1 have no `session_start`: their
 * `auth_time` is the start of the session.
 *
 * @param {AccountRevocation} revocation
 * @param {SessionClaims} claims
 */
export function endsSession({ before, except }, { sid, authTime, sessionStart }) {
  const began = sessionStart ?? authTime;
  return began !== undefined && began < before && sid !== except;
}

/**
 * Whether a change of the account's claims invalidates the token of these claims.
 *
 * @param {ClaimsChange} change
 * @param {SessionClaims} claims
 */
export function outdates({ version, at }, { claimsVersion, iat }) {
  return claimsVersion === undefined ? iat <= at : claimsVersion < version;
}

/**
 * Returns a member that must be a non-empty string.
 *
 * @param {unknown} value
 */
function requiredString(value) {
  if (typeof value !== "string" || value === "") throw new ProtocolError("the event is malformed");
  return value;
}

/**
 * Parses a time (RFC 3339). Returns whole seconds since 1970.
 *
 * @param {string} value
 */
function parseTime(value) {
  const ms = TIME.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(ms)) throw new ProtocolError("the event is malformed");
  return Math.floor(ms / 1000);
}

/** Revocations in order of receipt, each kept for `retainMs`. The parameter `now` is a monotonic time in milliseconds. */
export class RevocationSet {
  #maxEntries;
  /**
   * Each revocation by its id, with the time when it was last received; oldest first.
   *
   * @type {Map<string, { revocation: Revocation, receivedAt: number }>}
   */
  #received = new Map();
  /** The account-wide revocations of each account, by their ids. @type {Map<string, Map<string, AccountRevocation>>} */
  #byAccount = new Map();
  /** When a revocation last did not fit. @type {number | undefined} */
  #overflowedAt;

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
   * Adds a revocation. If the set is full, the revocation is dropped, and {@link RevocationSet.isComplete} reports that.
   *
   * @param {Revocation} revocation
   * @param {number} now
   */
  add(revocation, now) {
    this.evictExpired(now);
    const id = idOf(revocation);
    const known = this.#received.get(id)?.revocation;
    // A known revocation moves to the end of the order.
    this.#received.delete(id);
    if (this.#received.size >= this.#maxEntries) {
      this.#overflowedAt = now;
      return;
    }
    this.#received.set(id, { revocation: merged(revocation, known), receivedAt: now });
    if (revocation.kind === "account") {
      const ofAccount = this.#byAccount.get(revocation.account) ?? new Map();
      this.#byAccount.set(revocation.account, ofAccount.set(id, revocation));
    }
  }

  /**
   * Evicts revocations older than `retainMs`, which can no longer affect an unexpired token.
   *
   * @param {number} now
   */
  evictExpired(now) {
    for (const [id, { revocation, receivedAt }] of this.#received) {
      if (receivedAt + this.retainMs >= now) break;
      this.#received.delete(id);
      if (revocation.kind === "account") {
        const ofAccount = this.#byAccount.get(revocation.account);
        ofAccount?.delete(id);
        if (ofAccount?.size === 0) this.#byAccount.delete(revocation.account);
      }
    }
    // The revocation that did not fit would be expired now, too.
    if (this.#overflowedAt !== undefined && this.#overflowedAt + this.retainMs < now) this.#overflowedAt = undefined;
  }

  /**
   * Whether all revocations that can still affect an unexpired token are stored.
   *
   * @param {number} now
   */
  isComplete(now) {
    this.evictExpired(now);
    return this.#overflowedAt === undefined;
  }

  /**
   * Why a token with these claims, signed by the key `kid`, is refused.
   *
   * @param {string | undefined} kid
   * @param {SessionClaims} claims
   * @returns {RevocationCause | undefined}
   */
  causeOf(kid, claims) {
    if (kid !== undefined && this.revokesKey(kid)) return "key_retired";
    // A service client's own token has no session. Its `sub` is a client id, never an account.
    if (claims.sid === undefined) return undefined;
    if (this.#received.has(idOf({ kind: "session", session: claims.sid }))) return "session_revoked";
    for (const revocation of this.#byAccount.get(claims.sub)?.values() ?? []) {
      if (endsSession(revocation, claims)) return "account_revoked";
    }
    const change = this.#received.get(claimsChangeId(claims.sub))?.revocation;
    // The id implies the kind, but the type checker does not know that.
    if (change?.kind === "claims" && outdates(change, claims)) return "claims_changed";
    return undefined;
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

/**
 * The id of a revocation in the set. A later revocation with the same id replaces it.
 *
 * @param {Revocation} revocation
 */
function idOf(revocation) {
  switch (revocation.kind) {
    case "session":
      return `s ${revocation.session}`;
    case "key":
      return `k ${revocation.kid}`;
    case "account":
      return `a ${revocation.account} ${revocation.before} ${revocation.except ?? ""}`;
    case "claims":
      return claimsChangeId(revocation.account);
  }
}

/** @param {string} account */
function claimsChangeId(account) {
  return `c ${account}`;
}

/**
 * The revocation that replaces a known one with the same id. Changes of an account's claims share an id and may be received in any order:
 * the latest version and time count.
 *
 * @param {Revocation} revocation
 * @param {Revocation | undefined} known
 * @returns {Revocation}
 */
function merged(revocation, known) {
  if (revocation.kind !== "claims" || known?.kind !== "claims") return revocation;
  return { ...revocation, version: Math.max(revocation.version, known.version), at: Math.max(revocation.at, known.at) };
}
