/** The app's own sessions. Each ends at once when the user's session at Latchkey ends, wherever that happens. */

import { randomBytes } from "node:crypto";

import { InvalidToken } from "latchkey-verify";
import { ResponseBodyError, refreshTokenGrant, tokenRevocation } from "openid-client";

/** How many seconds before their expiry tokens are refreshed. */
const REFRESH_BEFORE_S = 30;

/** Sessions in memory: a restart of the app signs its users out. */
export class Sessions {
  #byId = new Map();

  /**
   * @param {import("openid-client").Configuration} provider
   * @param {import("latchkey-verify").Verifier} verifier
   */
  constructor(provider, verifier) {
    this.provider = provider;
    this.verifier = verifier;
  }

  /** Starts a session with the tokens of a sign-in. */
  async start(tokens) {
    const session = new Session(this);
    // first: if the verifier reports the session's end meanwhile, the session removes itself
    this.#byId.set(session.id, session);
    try {
      await session.accept(tokens);
    } catch (error) {
      this.remove(session);
      throw error;
    }
    return session;
  }

  /** The live session with this id. Refreshes its tokens if they are about to expire. */
  async find(id) {
    const session = this.#byId.get(id);
    if (session?.isStale()) await session.refresh();
    return this.#byId.get(id); // undefined if the refresh has ended the session
  }

  /** @param {Session} session */
  remove(session) {
    this.#byId.delete(session.id);
  }
}

/** One browser's session with the app. */
class Session {
  /** The value of the cookie. */
  id = randomBytes(32).toString("base64url");
  /** Functions to call when the session ends, one for each open page of the browser. @type {Set<() => void>} */
  endListeners = new Set();
  #store;
  #tokens = {};
  #claims;
  #registration;
  #refreshing;

  constructor(store) {
    this.#store = store;
  }

  /** The claims of the ID token. */
  get user() {
    return this.#tokens.claims();
  }

  get idToken() {
    return this.#tokens.id_token;
  }

  /** Stores new tokens and registers their session with the verifier, which reports its end. */
  async accept(tokens) {
    const claims = await this.#store.verifier.verify(tokens.access_token);
    this.#tokens = tokens;
    this.#claims = claims;
    this.#registration?.close();
    this.#registration = this.#store.verifier.onEnd(claims, (cause) => this.#onVerifierEnd(cause));
  }

  /** Whether the tokens must be refreshed: the verifier has reported an end, or the access token is about to expire. */
  isStale() {
    return this.#registration?.ended !== undefined || this.#claims.exp - REFRESH_BEFORE_S < Date.now() / 1000;
  }

  /** Refreshes the tokens, only once for concurrent requests. Ends the session if Latchkey refuses. */
  refresh() {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #refresh() {
    try {
      await this.accept(await refreshTokenGrant(this.#store.provider, this.#tokens.refresh_token));
    } catch (error) {
      // Latchkey refuses the refresh token, or the session of the new access token has ended already
      const hasEnded = error instanceof InvalidToken || (error instanceof ResponseBodyError && error.error === "invalid_grant");
      if (!hasEnded) throw error; // Latchkey can't be reached: the session stays, and the request fails
      this.end();
    }
  }

  /** Called by the verifier when the session ends, the access token expires or the user's roles change. */
  #onVerifierEnd(cause) {
    if (cause === "session_revoked" || cause === "account_revoked") {
      this.end();
    } else if (this.endListeners.size > 0) {
      // the token expired, or the user's roles changed, while a page is open: the refresh shows whether the session continues
      this.refresh().catch((error) => console.warn("refresh:", error.message));
    }
  }

  /** Ends the session here and at Latchkey, because a new sign-in of the browser replaces it. */
  async revoke() {
    this.end();
    await tokenRevocation(this.#store.provider, this.#tokens.refresh_token).catch((error) => console.warn("revocation:", error.message));
  }

  /** Ends the session in this app. */
  end() {
    this.#store.remove(this);
    this.#registration?.close();
    for (const notify of this.endListeners) notify();
    this.endListeners.clear();
  }
}
