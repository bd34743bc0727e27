/** The verifier: keys, feed and rules together. */

import { readClaims } from "./claims.js";
import { InvalidToken, textOf, Unavailable } from "./errors.js";
import { Feed } from "./feed.js";
import { Issuer } from "./issuer.js";
import { KeyRing } from "./keyring.js";
import { settingsOf } from "./settings.js";
import { parseToken, verifyToken } from "./token.js";

/** Checks access tokens in memory while it follows what Latchkey revokes. One for each process. */
export class Verifier {
  #settings;
  /** @type {Issuer} */
  #issuer;
  /** @type {Feed} */
  #feed;
  /** @type {KeyRing} */
  #keys;
  #closing = new AbortController();
  #ended;

  /**
   * Starts following. Doesn't wait for Latchkey: until the feed has caught up, tokens are treated as `feedLost` says.
   *
   * @param {import("./settings.js").Options} options
   * @throws {import("./errors.js").LatchkeyError} for options that can't work
   */
  constructor(options) {
    this.#settings = settingsOf(options);
    const issuer = new Issuer(this.#settings);
    const feed = new Feed(issuer, this.#settings);
    const keys = new KeyRing(() => issuer.keys(), (kid) => feed.endsKey(kid), this.#settings);
    feed.onKey = (kid) => keys.retire(kid);
    feed.onLive = () => keys.look();
    [this.#issuer, this.#feed, this.#keys] = [issuer, feed, keys];
    this.#ended = Promise.all([feed.follow(this.#closing.signal), keys.keep(this.#closing.signal)]);
  }

  /** Whether tokens are checked in memory now; otherwise as `feedLost` says. */
  get live() {
    return this.#feed.isTrusted();
  }

  /**
   * Waits until the feed has caught up for the first time.
   *
   * @param {number} timeoutMs
   * @returns {Promise<boolean>} whether it has
   */
  waitLive(timeoutMs = 5_000) {
    return this.#feed.waitLive(timeoutMs);
  }

  /**
   * What the token says, if it is good and its session hasn't ended.
   *
   * @param {string} text
   * @returns {Promise<Readonly<import("./claims.js").Claims>>}
   * @throws {InvalidToken} if it isn't
   * @throws {Unavailable} if that can't be known now
   */
  async verify(text) {
    if (this.#closing.signal.aborted) throw new Unavailable("the verifier is closed");
    const token = parseToken(text);
    if (this.#feed.endsKey(token.kid)) throw new InvalidToken("its key was taken out of use");
    const members = await verifyToken(token, await this.#keys.require(token.kid));
    const claims = readClaims(members, this.#settings, Date.now());
    this.#refuseRevoked(token.kid, claims);
    if (!this.#feed.isTrusted()) {
      await this.#withoutFeed(text);
      this.#refuseRevoked(token.kid, claims);
    }
    return claims;
  }

  /** Stops following. Nothing of it keeps the process alive after that. */
  async close() {
    this.#closing.abort();
    this.#issuer.close();
    await this.#ended;
  }

  /**
   * @param {string} kid
   * @param {import("./claims.js").Claims} claims
   */
  #refuseRevoked(kid, claims) {
    if (this.#feed.ends(kid, claims)) throw new InvalidToken("it was revoked");
  }

  /** @param {string} text */
  async #withoutFeed(text) {
    if (this.#settings.feedLost === "refuse") throw new Unavailable("the feed of revocations is lost");
    const active = await this.#issuer.isActive(text).catch((/** @type {unknown} */ error) => {
      throw new Unavailable(`Latchkey can't be asked: ${textOf(error)}`);
    });
    if (!active) throw new InvalidToken("Latchkey says that it is not active");
  }
}

/**
 * A verifier that follows Latchkey until it is closed.
 *
 * @param {import("./settings.js").Options} options
 * @returns {Verifier}
 * @throws {import("./errors.js").LatchkeyError} for options that can't work
 */
export function createVerifier(options) {
  return new Verifier(options);
}
