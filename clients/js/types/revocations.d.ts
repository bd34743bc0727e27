/**
 * Parses the data of a `revocation` event.
 *
 * @param {Record<string, unknown>} data
 * @returns {Revocation}
 * @throws {ProtocolError} if a member is missing or the kind is unknown. The caller must then assume that it missed a revocation.
 */
export function parseRevocation(data: Record<string, unknown>): Revocation;
/**
 * Parses the data of a `claims` event.
 *
 * @param {Record<string, unknown>} data
 * @returns {ClaimsChange}
 * @throws {ProtocolError} if a member is missing or malformed
 */
export function parseClaimsChange(data: Record<string, unknown>): ClaimsChange;
/**
 * Whether an account-wide revocation ends the session of these claims. Tokens of Latchkey 0.1 have no `session_start`: their
 * `auth_time` is the start of the session.
 *
 * @param {AccountRevocation} revocation
 * @param {SessionClaims} claims
 */
export function endsSession({ before, except }: AccountRevocation, { sid, authTime, sessionStart }: SessionClaims): boolean;
/**
 * Whether a change of the account's claims invalidates the token of these claims.
 *
 * @param {ClaimsChange} change
 * @param {SessionClaims} claims
 */
export function outdates({ version, at }: ClaimsChange, { claimsVersion, iat }: SessionClaims): boolean;
/** Revocations in order of receipt, each kept for `retainMs`. The parameter `now` is a monotonic time in milliseconds. */
export class RevocationSet {
    /**
     * @param {number} maxEntries
     * @param {number} retainMs how long a revocation is kept after it was last received
     */
    constructor(maxEntries: number, retainMs: number);
    retainMs: number;
    /** The number of revocations. */
    get size(): number;
    /**
     * Adds a revocation. If the set is full, the revocation is dropped, and {@link RevocationSet.isComplete} reports that.
     *
     * @param {Revocation} revocation
     * @param {number} now
     */
    add(revocation: Revocation, now: number): void;
    /**
     * Evicts revocations older than `retainMs`, which can no longer affect an unexpired token.
     *
     * @param {number} now
     */
    evictExpired(now: number): void;
    /**
     * Whether all revocations that can still affect an unexpired token are stored.
     *
     * @param {number} now
     */
    isComplete(now: number): boolean;
    /**
     * Why a token with these claims, signed by the key `kid`, is refused.
     *
     * @param {string | undefined} kid
     * @param {SessionClaims} claims
     * @returns {RevocationCause | undefined}
     */
    causeOf(kid: string | undefined, claims: SessionClaims): RevocationCause | undefined;
    /**
     * Whether the signing key is retired.
     *
     * @param {string} kid
     */
    revokesKey(kid: string): boolean;
    #private;
}
/**
 * `session` ends one session. `account` ends the account's
 *   sessions that began before the time `before`, except the session `except`. `key` retires a signing key. `claims` invalidates the
 *   account's tokens with a version of the claims below `version`, and its tokens without a version that were issued at the time `at`
 *   or before. Both times are whole seconds since 1970.
 */
export type Revocation = {
    kind: "session";
    session: string;
} | {
    kind: "account";
    account: string;
    before: number;
    except: string | undefined;
} | {
    kind: "key";
    kid: string;
} | {
    kind: "claims";
    account: string;
    version: number;
    at: number;
};
export type AccountRevocation = Extract<Revocation, {
    kind: "account";
}>;
export type ClaimsChange = Extract<Revocation, {
    kind: "claims";
}>;
export type SessionClaims = Pick<import("./claims.js").Claims, "sub" | "sid" | "authTime" | "sessionStart" | "claimsVersion" | "iat">;
/**
 * Why a token is refused.
 */
export type RevocationCause = "key_retired" | "session_revoked" | "account_revoked" | "claims_changed";
