/** What checking a token can end with beside its claims. */

/** The base of what this package throws. */
export class LatchkeyError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/**
 * The token is not one to let in: forged, damaged, expired, for somebody else, or its session has ended.
 *
 * The message says why, for the log. Tell the client no more than RFC 6750's `invalid_token`. It holds nothing of the token.
 */
export class InvalidToken extends LatchkeyError {}

/**
 * Whether the token is good can't be known now: Latchkey can't be reached, and what is known here is too old.
 *
 * Answer 503 with `Retry-After`: neither let the request in nor sign its user out.
 */
export class Unavailable extends LatchkeyError {}

/** Latchkey, or what stands in for it, answered something that makes no sense here. */
export class Malformed extends LatchkeyError {}

/**
 * An error's text, for logs and other errors.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function textOf(error) {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : "";
  return `${error.message || error.name}${cause}`;
}
