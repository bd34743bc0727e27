/**
 * Returns an error's message, or its name if the message is empty, and the message of its cause. For logs and other errors.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function describeError(error: unknown): string;
/** Base class of the errors of this package. */
export class LatchkeyError extends Error {
    /** @param {string} message */
    constructor(message: string);
}
/**
 * The token is forged, damaged, expired, revoked or for another service.
 *
 * `reason` and the message are for the log and contain nothing of the token. Send the client the error `invalid_token` (RFC 6750)
 * without the reason. Only the reason `claims_changed` is sent, too: the client then refreshes the token.
 */
export class InvalidToken extends LatchkeyError {
    /**
     * @param {Reason} reason
     * @param {string} [claim] the name of the claim, for `missing_claim`
     */
    constructor(reason: Reason, claim?: string);
    /** @type {Reason} */
    reason: Reason;
}
/**
 * Latchkey is unreachable and the local state is stale, so the token can be neither accepted nor refused.
 *
 * Answer 503 with `Retry-After`: neither let the request in nor sign its user out.
 */
export class Unavailable extends LatchkeyError {
}
/** A registration, which `onEnd` returned, cannot be renewed: it has ended or is closed, or the token belongs to another session. */
export class RenewError extends LatchkeyError {
    /**
     * @param {string} message
     * @param {import("./end-registry.js").EndCause} [ended]
     */
    constructor(message: string, ended?: import("./end-registry.js").EndCause);
    /** Why the registration has ended; absent if it has not. @type {import("./end-registry.js").EndCause | undefined} */
    ended: import("./end-registry.js").EndCause | undefined;
}
/** Latchkey, or a server that answers in its place, sent an unexpected response. */
export class ProtocolError extends LatchkeyError {
}
/**
 * Why a token is invalid. The codes are stable and the same in Latchkey's Rust and Python packages. That for Rust has a further one.
 */
export type Reason = "too_long" | "malformed" | "critical_header" | "wrong_type" | "unknown_key" | "wrong_algorithm" | "bad_signature" | "missing_claim" | "wrong_issuer" | "wrong_audience" | "expired" | "not_yet_valid" | "revoked" | "claims_changed";
