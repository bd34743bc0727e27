/** The registrations of open connections and long jobs, whose callbacks run when their session ends. */

import { describeError, RenewError, Unavailable } from "./errors.js";
import { endsSession, outdates } from "./revocations.js";

/** @typedef {Readonly<import("./claims.js").Claims>} Claims */

/**
 * @typedef {"session_revoked" | "account_revoked" | "key_retired" | "claims_changed" | "token_expired" | "feed_lost"} EndCause
 *   Why a registration ended. The codes are stable and the same in Latchkey's Rust and Python packages.
 */

/**
 * @typedef {object} Settings
 * @property {number} leewayMs how long after its `exp` a token is still accepted
 * @property {number} maxRegistrations
 * @property {number} endAfterSilenceMs the silence of the feed after which registrations end
 * @property {(message: string) => void} log
 */

/**
 * @typedef {object} Environment The state of the verifier, and the clocks.
 * @property {(token: string) => Promise<Claims>} verify verifies a token without a call of `onAccepted`
 * @property {(claims: Claims) => string | undefined} kidOf the key that signed the token of these claims
 * @property {(kid: string | undefined, claims: Claims) => EndCause | undefined} causeOf why a token with this key and these claims is refused now
 * @property {() => number} silentMs how long the feed has been silent: the milliseconds since the verifier last had every revocation
 * @property {() => number} now the wall clock, in milliseconds since 1970
 * @property {() => number} elapsed a monotonic clock, in milliseconds
 */

/**
 * The longest delay of the timer, in milliseconds. Tokens expire by the wall clock. If that clock jumps while the timer runs, the timer
 * still fires within this time.
 */
const MAX_TIMER_MS = 1_000;

/** A session with at least one registration. A service client's own token has no `sid`: each of its registrations has a `Session` to itself. */
class Session {
  /** @type {Set<Registration>} */
  registrations = new Set();
  /** The highest version of the account's claims that a token of the session had. @type {number | undefined} */
  claimsVersion;

  /**
   * @param {Claims} claims
   * @param {string | undefined} kid the key of the session's last known token
   */
  constructor(claims, kid) {
    this.sid = claims.sid;
    this.account = claims.sub;
    /** When the session's last known token expires, in seconds since 1970. */
    this.exp = claims.exp;
    this.kid = kid;
  }
}

/** A callback that `onEnd` has registered. The registration is active until it ends or is closed. */
export class Registration {
  #registry;
  #session;
  #callback;
  #claims;
  #since;
  /** @type {AbortController | undefined} */
  #controller;
  /** @type {EndCause | undefined} */
  #ended;
  #closed = false;

  /**
   * @internal
   * @param {EndRegistry} registry
   * @param {Session} session
   * @param {Claims} claims
   * @param {(cause: EndCause) => unknown} callback
   * @param {number} since the time of the registration, by the monotonic clock
   */
  constructor(registry, session, claims, callback, since) {
    this.#registry = registry;
    this.#session = session;
    this.#callback = callback;
    this.#claims = claims;
    this.#since = since;
  }

  /** The claims of the token that was registered, or with which the registration was last renewed. */
  get claims() {
    return this.#claims;
  }

  /** Why the registration has ended; undefined while it is active, or if {@link Registration.close} was called first. */
  get ended() {
    return this.#ended;
  }

  /**
   * A signal that is aborted when the registration ends, with the cause as its reason.
   *
   * @returns {AbortSignal}
   */
  get signal() {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#ended !== undefined) this.#controller.abort(this.#ended);
    }
    return this.#controller.signal;
  }

  /**
   * Verifies a newer token of the same session, as `Verifier.verify` does, and replaces the registered token by it: its expiry
   * and its claims apply from now on. Unlike `Verifier.verify`, it does not end this registration when the claims are newer.
   *
   * @param {string} token
   * @returns {Promise<Claims>} the claims of the newer token
   * @throws {RenewError} if the registration has ended or is closed, or the token belongs to another session
   * @throws {import("./errors.js").InvalidToken} if the token is not valid; the registration is unchanged
   * @throws {Unavailable} if the validity cannot be decided now; the registration is unchanged
   */
  async renew(token) {
    this.#rejectIfInactive();
    const claims = await this.#registry.verify(token);
    this.renewWith(claims);
    // the registration ends if the token is already outdated
    this.#rejectIfInactive();
    return claims;
  }

  /**
   * @internal
   * @param {Claims} claims of a verified token
   */
  renewWith(claims) {
    // also needed after `renew` has checked it: the registration may have ended while the token was verified
    this.#rejectIfInactive();
    if (claims.sid !== this.#session.sid || claims.sub !== this.#session.account) {
      throw new RenewError("the token belongs to another session");
    }
    this.#claims = claims;
    this.#since = this.#registry.renew(this, this.#session, claims);
  }

  /** Deregisters. Afterwards the callback is not called. May be repeated. */
  close() {
    this.#closed = true;
    this.#registry.remove(this, this.#session);
  }

  #rejectIfInactive() {
    if (this.#ended !== undefined) throw new RenewError(`the registration has ended: ${this.#ended}`, this.#ended);
    if (this.#closed) throw new RenewError("the registration is closed");
  }

  /** @internal When the registration was made or last renewed, by the monotonic clock. */
  get since() {
    return this.#since;
  }

  /**
   * @internal
   * @param {EndCause} cause
   */
  end(cause) {
    if (this.#ended !== undefined || this.#closed) return;
    this.#ended = cause;
    this.#registry.remove(this, this.#session);
    this.#controller?.abort(cause);
    try {
      const result = this.#callback(cause);
      if (result instanceof Promise) result.catch((error) => this.#registry.logFailure(error));
    } catch (error) {
      this.#registry.logFailure(error);
    }
  }
}

/** Indexes the registrations by session, account, key and expiry, to find those that an event ends. All registrations share one timer. */
export class EndRegistry {
  #settings;
  #environment;
  /** The registrations, in the order in which they were registered or renewed. @type {Set<Registration>} */
  #registrations = new Set();
  /** @type {Map<string, Session>} */
  #bySid = new Map();
  /** @type {Index<string, Session>} */
  #byAccount = new Index();
  /** @type {Index<string, Session>} */
  #byKid = new Index();
  /** Sessions by the second in which their last known token expires. @type {Index<number, Session>} */
  #byExpiry = new Index();
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  /** When the timer fires, by the monotonic clock. */
  #timerAt = Number.POSITIVE_INFINITY;
  #closed = false;

  /**
   * @param {Settings} settings
   * @param {Environment} environment
   */
  constructor(settings, environment) {
    this.#settings = settings;
    this.#environment = environment;
  }

  /** The number of registrations. */
  get size() {
    return this.#registrations.size;
  }

  /** The number of entries of all indexes, for tests. */
  get indexed() {
    return this.#bySid.size + this.#byAccount.size + this.#byKid.size + this.#byExpiry.size;
  }

  /**
   * Registers a callback, which is called at most once. If the session has ended already, it is called before this method returns.
   *
   * @param {Claims} claims
   * @param {(cause: EndCause) => unknown} callback
   * @returns {Registration}
   * @throws {Unavailable} if there are `maxRegistrations` already
   */
  register(claims, callback) {
    if (this.size >= this.#settings.maxRegistrations) {
      throw new Unavailable(`there are ${this.size} registrations: close some, or raise maxRegistrations`);
    }
    const kid = this.#environment.kidOf(claims);
    let session = this.#sessionOf(claims);
    if (!session) {
      session = new Session(claims, kid);
      if (claims.sid !== undefined) this.#bySid.set(claims.sid, session);
      this.#byAccount.add(session.account, session);
      this.#indexToken(session);
    }
    const registration = new Registration(this, session, claims, callback, this.#environment.elapsed());
    session.registrations.add(registration);
    this.#registrations.add(registration);
    this.#updateToken(session, claims, kid);
    this.#endIfInvalid(registration, session, kid);
    this.#schedule(this.#remainingMs(session.exp));
    return registration;
  }

  /**
   * Verifies a token with which a registration may be renewed.
   *
   * @param {string} token
   */
  verify(token) {
    return this.#environment.verify(token);
  }

  /**
   * Records the newer token of a registration.
   *
   * @param {Registration} registration
   * @param {Session} session
   * @param {Claims} claims
   * @returns {number} the time of the renewal, by the monotonic clock
   */
  renew(registration, session, claims) {
    const kid = this.#environment.kidOf(claims);
    // moves the registration to the end of the order
    this.#registrations.delete(registration);
    this.#registrations.add(registration);
    this.#updateToken(session, claims, kid);
    this.#endIfInvalid(registration, session, kid);
    return this.#environment.elapsed();
  }

  /**
   * Removes a registration, and its session if no other registration is left.
   *
   * @param {Registration} registration
   * @param {Session} session
   */
  remove(registration, session) {
    if (!this.#registrations.delete(registration)) return;
    session.registrations.delete(registration);
    if (session.registrations.size > 0) return;
    if (session.sid !== undefined) this.#bySid.delete(session.sid);
    this.#byAccount.remove(session.account, session);
    this.#unindexToken(session);
    if (this.size === 0) this.#stopTimer();
  }

  /**
   * Records a token that the verifier accepted: it may be the successor of a registered session's last known token.
   *
   * @param {Claims} claims
   */
  onAccepted(claims) {
    const session = this.#sessionOf(claims);
    if (session?.account === claims.sub) this.#updateToken(session, claims, this.#environment.kidOf(claims));
  }

  /** @param {import("./revocations.js").Revocation} revocation */
  onRevocation(revocation) {
    switch (revocation.kind) {
      case "session":
        endAll(this.#bySid.get(revocation.session)?.registrations ?? [], "session_revoked");
        break;
      case "account":
        for (const registration of this.#ofAccount(revocation.account)) {
          if (endsSession(revocation, registration.claims)) registration.end("account_revoked");
        }
        break;
      case "claims":
        for (const registration of this.#ofAccount(revocation.account)) {
          if (outdates(revocation, registration.claims)) registration.end("claims_changed");
        }
        break;
      case "key":
        this.#endAllOf(this.#byKid.get(revocation.kid) ?? [], "key_retired");
    }
  }

  /**
   * Ends the registrations of keys that are no longer published.
   *
   * @param {(kid: string) => boolean} isPublished
   */
  onKeysReplaced(isPublished) {
    for (const kid of [...this.#byKid.keys()]) {
      if (!isPublished(kid)) this.#endAllOf(this.#byKid.get(kid) ?? [], "key_retired");
    }
  }

  /**
   * Ends the registrations whose session's last known token has expired. If the feed has been silent for longer than
   * `endAfterSilenceMs`, also ends the registrations that are older than `endAfterSilenceMs`. The timer calls this function.
   */
  endExpired() {
    for (const exp of [...this.#byExpiry.keys()]) {
      if (this.#hasExpired(exp)) this.#endAllOf(this.#byExpiry.get(exp) ?? [], "token_expired");
    }
    const limit = this.#settings.endAfterSilenceMs;
    if (this.#environment.silentMs() <= limit) return;
    const now = this.#environment.elapsed();
    for (const registration of [...this.#registrations]) {
      // the registrations after this one are newer
      if (now - registration.since <= limit) break;
      registration.end("feed_lost");
    }
  }

  /** Ends all registrations, because a closed verifier receives no revocations. */
  close() {
    this.#closed = true;
    endAll(this.#registrations, "feed_lost");
    this.#stopTimer();
  }

  /**
   * Logs that a callback has failed.
   *
   * @param {unknown} error
   */
  logFailure(error) {
    this.#settings.log(`a callback of onEnd failed: ${describeError(error)}`);
  }

  /** @param {Claims} claims */
  #sessionOf({ sid }) {
    return sid === undefined ? undefined : this.#bySid.get(sid);
  }

  /**
   * Makes a token the session's last known one if it expires later, and ends registrations of older claims.
   *
   * @param {Session} session
   * @param {Claims} claims
   * @param {string | undefined} kid
   */
  #updateToken(session, claims, kid) {
    if (claims.exp > session.exp) {
      this.#unindexToken(session);
      session.exp = claims.exp;
      session.kid = kid;
      this.#indexToken(session);
    }
    const version = claims.claimsVersion;
    if (version === undefined) return;
    if (session.claimsVersion !== undefined && version <= session.claimsVersion) return;
    session.claimsVersion = version;
    for (const registration of [...session.registrations]) {
      if (isOlder(registration.claims.claimsVersion, version)) registration.end("claims_changed");
    }
  }

  /**
   * Ends a registration whose session has ended or whose token is no longer valid.
   *
   * @param {Registration} registration
   * @param {Session} session
   * @param {string | undefined} kid
   */
  #endIfInvalid(registration, session, kid) {
    const { claims } = registration;
    let cause = this.#closed ? "feed_lost" : this.#environment.causeOf(kid, claims);
    if (!cause && isOlder(claims.claimsVersion, session.claimsVersion)) cause = "claims_changed";
    if (!cause && this.#hasExpired(session.exp)) cause = "token_expired";
    if (cause) registration.end(cause);
  }

  /** @param {string} account */
  *#ofAccount(account) {
    for (const session of [...(this.#byAccount.get(account) ?? [])]) {
      // a token without a session is a service client's own, which no event of an account concerns
      if (session.sid !== undefined) yield* [...session.registrations];
    }
  }

  /**
   * @param {Iterable<Session>} sessions
   * @param {EndCause} cause
   */
  #endAllOf(sessions, cause) {
    for (const session of [...sessions]) endAll(session.registrations, cause);
  }

  /** @param {number} exp */
  #hasExpired(exp) {
    return this.#remainingMs(exp) <= 0;
  }

  /**
   * The milliseconds until the verifier refuses a token with this `exp`.
   *
   * @param {number} exp
   */
  #remainingMs(exp) {
    return exp * 1000 + this.#settings.leewayMs - this.#environment.now();
  }

  /** The milliseconds until the feed is lost for the oldest registration, if no event arrives. */
  #remainingSilenceMs() {
    const [oldest] = this.#registrations;
    const age = oldest === undefined ? 0 : this.#environment.elapsed() - oldest.since;
    // for a registration, the silence begins when it is made or renewed, at the earliest
    const silence = Math.min(this.#environment.silentMs(), age);
    // a millisecond more, because `endExpired` requires that the time has been exceeded
    return this.#settings.endAfterSilenceMs - silence + 1;
  }

  /**
   * Sets the timer, unless it fires earlier anyway.
   *
   * @param {number} delayMs
   */
  #schedule(delayMs) {
    const delay = Math.max(0, Math.min(delayMs, MAX_TIMER_MS));
    const at = this.#environment.elapsed() + delay;
    if (this.size === 0 || at >= this.#timerAt) return;
    this.#stopTimer();
    this.#timerAt = at;
    // `unref`: the timer does not keep the process alive
    this.#timer = setTimeout(() => this.#onTimer(), Math.ceil(delay)).unref();
  }

  #onTimer() {
    this.#stopTimer();
    this.endExpired();
    let next = this.#remainingSilenceMs();
    for (const exp of this.#byExpiry.keys()) next = Math.min(next, this.#remainingMs(exp));
    this.#schedule(next);
  }

  #stopTimer() {
    clearTimeout(this.#timer);
    this.#timerAt = Number.POSITIVE_INFINITY;
  }

  /** @param {Session} session */
  #indexToken(session) {
    this.#byExpiry.add(session.exp, session);
    if (session.kid !== undefined) this.#byKid.add(session.kid, session);
  }

  /** @param {Session} session */
  #unindexToken(session) {
    this.#byExpiry.remove(session.exp, session);
    if (session.kid !== undefined) this.#byKid.remove(session.kid, session);
  }
}

/**
 * Whether claims have an older version than other claims. Claims from a token of Latchkey 0.1 have no version, and are not older.
 *
 * @param {number | undefined} version
 * @param {number | undefined} other
 */
function isOlder(version, other) {
  return version !== undefined && other !== undefined && version < other;
}

/**
 * @param {Iterable<Registration>} registrations
 * @param {EndCause} cause
 */
function endAll(registrations, cause) {
  // a copy, because a registration that ends removes itself from the sets and indexes
  for (const registration of [...registrations]) registration.end(cause);
}

/**
 * Sets of values by key. A key without values takes no memory.
 *
 * @template K, V
 * @extends {Map<K, Set<V>>}
 */
class Index extends Map {
  /**
   * @param {K} key
   * @param {V} value
   */
  add(key, value) {
    const values = this.get(key);
    if (values) values.add(value);
    else this.set(key, new Set([value]));
  }

  /**
   * @param {K} key
   * @param {V} value
   */
  remove(key, value) {
    const values = this.get(key);
    if (values?.delete(value) && values.size === 0) this.delete(key);
  }
}
