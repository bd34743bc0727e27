/** The errors that this package throws. */

/**
 * @typedef {"too_long" | "malformed" | "critical_header" | "wrong_type" | "unknown_key" | "wrong_algorithm" | "bad_signature"
 *   | "missing_claim" | "wrong_issuer" | "wrong_audience" | "expired" | "not_yet_valid" | "revoked" | "claims_changed"} Reason
 *   Why a token is invalid. The codes are stable and the same in Latchkey's Rust and Python packages. That for Rust has a further one.
 */

/** @type {Readonly<Record<Reason, string>>} */
const MESSAGES = {
  too_long: "the token is longer than 8192 bytes",
  malformed: "the token is not a well-formed signed JWT",
  critical_header: "the token's header has crit, which is not supported",
  wrong_type: "the token is not an access token (typ is not at+jwt)",
  unknown_key: "the issuer publishes no key with the token's kid",
  wrong_algorithm: "the token's alg is not the algorithm of its key",
  bad_signature: "the token's signature is wrong",
  missing_claim: "the token has no {claim} claim",
  wrong_issuer: "the token is from another issuer",
  wrong_audience: "the token is for another audience",
  expired: "the token has expired",
  not_yet_valid: "the token is not valid yet",
  revoked: "the token was revoked",
  claims_changed: "the claims of the account have changed since the token was issued",
};

/** Base class of the errors of this package. */
export class LatchkeyError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    // the name of the subclass
    this.name = new.target.name;
  }
}

/**
 * The token is forged, damaged, expired, revoked or for another service.
 *
 * `reason` and the message are for the log and contain nothing of the token. Send the client the error `invalid_token` (RFC 6750)
 * without the reason. Only the reason `claims_changed` is sent, too: the client then refreshes the token.
 */
export class InvalidToken extends LatchkeyError {
  /** @type {Reason} */
  reason;

  /**
   * @param {Reason} reason
   * @param {string} [claim] the name of the claim, for `missing_claim`
   */
  constructor(reason, claim = "") {
    super(MESSAGES[reason].replace("{claim}", claim));
    this.reason = reason;
  }
}

/**
 * Latchkey is unreachable and the local state is stale, so the token can be neither accepted nor refused.
 *
 * Answer 503 with `Retry-After`: neither let the request in nor sign its user out.
 */
export class Unavailable extends LatchkeyError {}

/** A registration, which `onEnd` returned, cannot be renewed: it has ended or is closed, or the token belongs to another session. */
export class RenewError extends LatchkeyError {
  /** Why the registration has ended; absent if it has not. @type {import("./end-registry.js").EndCause | undefined} */
  ended;

  /**
   * @param {string} message
   * @param {import("./end-registry.js").EndCause} [ended]
   */
  constructor(message, ended) {
    super(message);
    this.ended = ended;
  }
}

/** Latchkey, or a server that answers in its place, sent an unexpected response. */
export class ProtocolError extends LatchkeyError {}

/**
 * Returns an error's message, or its name if the message is empty, and the message of its cause. For logs and other errors.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function describeError(error) {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : "";
  return `${error.message || error.name}${cause}`;
}
