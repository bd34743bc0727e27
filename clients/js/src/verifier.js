/** Verifies access tokens with the issuer's keys and the revocation feed. */

import { validateClaims } from "./claims.js";
import { EndRegistry } from "./end-registry.js";
import { describeError, InvalidToken, Unavailable } from "./errors.js";
import { RevocationFeed } from "./feed.js";
import { IssuerClient } from "./issuer.js";
import { KeyRing } from "./keyring.js";
import { originOf, setOrigin } from "./origin.js";
import { settingsOf } from "./settings.js";
import { parseToken, verifySignature } from "./token.js";

/** Verifies access tokens locally while it follows Latchkey's revocations. Use one per process. */
export class Verifier {
  #settings;
  /** @type {IssuerClient} */
  #issuer;
  /** @type {RevocationFeed} */
  #feed;
  /** @type {KeyRing} */
  #keys;
  #registry;
  #closing = new AbortController();
  /** Settles when the background tasks have stopped. */
  #stopped;

  /**
   * Starts to connect in the background. Until the feed has caught up, the option `feedLost` says how tokens are handled.
   *
   * @param {import("./settings.js").Options} options
   * @throws {import("./errors.js").LatchkeyError} for invalid options
   */
  constructor(options) {
    this.#settings = settingsOf(options);
    const issuer = new IssuerClient(this.#settings);
    const feed = new RevocationFeed(issuer, this.#settings);
    const keys = new KeyRing(() => issuer.keys(), (kid) => feed.revokesKey(kid), this.#settings);
    this.#registry = new EndRegistry(this.#settings, {
      verify: (token) => this.#verify(token),
      kidOf: (claims) => originOf(claims)?.kid,
      causeOf: (kid, claims) => {
        if (kid !== undefined && !keys.has(kid)) return "key_retired";
        return feed.causeOf(kid, claims);
      },
      silentMs: () => feed.silentMs,
      now: Date.now,
      elapsed: () => performance.now(),
    });
    feed.onRevocation = (revocation) => {
      if (revocation.kind === "key") keys.retire(revocation.kid);
      this.#registry.onRevocation(revocation);
    };
    // Keys may have changed while the verifier was disconnected.
    feed.onReconnected = () => keys.requestRefresh();
    keys.onReplaced = (isPublished) => this.#registry.onKeysReplaced(isPublished);
    this.#issuer = issuer;
    this.#feed = feed;
    this.#keys = keys;
    this.#stopped = Promise.all([feed.run(this.#closing.signal), keys.run(this.#closing.signal)]);
  }

  /** Whether the revocations are up to date, so that tokens are verified locally. Otherwise the option `feedLost` applies. */
  get live() {
    return this.#feed.isCurrent();
  }

  /** The number of registrations of {@link Verifier.onEnd} that have neither ended nor been closed. */
  get registrations() {
    return this.#registry.size;
  }

  /**
   * Waits at most `timeoutMs` until the feed has caught up for the first time.
   *
   * @param {number} timeoutMs
   * @returns {Promise<boolean>} whether the feed has caught up
   */
  waitLive(timeoutMs = 5_000) {
    return this.#feed.waitLive(timeoutMs);
  }

  /**
   * Verifies an access token, and returns its claims. A token whose session has ended, or whose account's claims have changed, is not valid.
   *
   * @param {string} text
   * @returns {Promise<Readonly<import("./claims.js").Claims>>}
   * @throws {InvalidToken} if the token is not valid
   * @throws {Unavailable} if the validity cannot be decided now
   */
  async verify(text) {
    const claims = await this.#verify(text);
    this.#registry.onAccepted(claims);
    return claims;
  }

  /**
   * Verifies a token, without an effect on registrations.
   *
   * @param {string} text
   * @returns {Promise<Readonly<import("./claims.js").Claims>>}
   */
  async #verify(text) {
    if (this.#closing.signal.aborted) throw new Unavailable("the verifier is closed");
    const token = parseToken(text);
    // The key ring no longer has a retired key. This check rejects the token without a request for the issuer's keys.
    if (this.#feed.revokesKey(token.kid)) throw new InvalidToken("revoked");
    const payload = await verifySignature(token, await this.#keys.get(token.kid));
    const claims = validateClaims(payload, this.#settings, Date.now());
    // A registration and the guards of the middleware need the origin of the claims later.
    setOrigin(claims, { kid: token.kid, leewayMs: this.#settings.leewayMs });
    this.#rejectRevoked(token.kid, claims);
    if (!this.#feed.isCurrent()) {
      await this.#verifyWithoutFeed(text);
      // The feed may have delivered a revocation during the introspection.
      this.#rejectRevoked(token.kid, claims);
    }
    return claims;
  }

  /**
   * Registers an open connection or a long job. The callback is called once, with the cause, when the session of these claims
   * ends, the claims of its account change, its last known token expires, or the feed is lost for `endAfterSilenceMs`. If one
   * of these has already happened, the callback is called before this method returns. Any newer token of the session that
   * {@link Verifier.verify} accepts keeps the registration alive, unless its claims are newer: then the registration ends. A token
   * that is passed to the registration's `renew` does not end that registration.
   *
   * Close the registration when the connection is closed or the job is done.
   *
   * @param {Readonly<import("./claims.js").Claims>} claims that {@link Verifier.verify} returned
   * @param {(cause: import("./end-registry.js").EndCause) => unknown} callback An error that it throws is logged.
   * @returns {import("./end-registry.js").Registration}
   * @throws {Unavailable} if there are `maxRegistrations` already
   */
  onEnd(claims, callback) {
    return this.#registry.register(claims, callback);
  }

  /** Disconnects and ends all registrations. After that nothing of the verifier keeps the process alive. */
  async close() {
    this.#closing.abort();
    this.#registry.close();
    this.#issuer.close();
    await this.#stopped;
  }

  /**
   * Throws if the feed has revoked the key, the session or the claims of a token.
   *
   * @param {string} kid
   * @param {import("./claims.js").Claims} claims
   */
  #rejectRevoked(kid, claims) {
    const cause = this.#feed.causeOf(kid, claims);
    if (cause === "claims_changed") throw new InvalidToken("claims_changed");
    if (cause !== undefined) throw new InvalidToken("revoked");
  }

  /**
   * Decides about a token while the feed is lost, as the option `feedLost` demands.
   *
   * @param {string} text
   */
  async #verifyWithoutFeed(text) {
    if (this.#settings.feedLost === "refuse") throw new Unavailable("the revocation feed is lost");
    const active = await this.#issuer.introspect(text).catch((/** @type {unknown} */ error) => {
      throw new Unavailable(`the revocation feed is lost and introspection failed: ${describeError(error)}`);
    });
    if (!active) throw new InvalidToken("revoked");
  }
}

/**
 * Creates a verifier, which follows Latchkey until it is closed.
 *
 * @param {import("./settings.js").Options} options
 * @returns {Verifier}
 * @throws {import("./errors.js").LatchkeyError} for invalid options
 */
export function createVerifier(options) {
  return new Verifier(options);
}
