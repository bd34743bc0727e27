/**
 * Parses the data of a `revocation` event.
 *
 * @param {Record<string, unknown>} data
 * @returns {Revocation}
 * @throws {ProtocolError} for an unknown kind, which the caller must treat as a gap, and for a missing member
 */
export function parseRevocation(data: Record<string, unknown>): Revocation;
/** Revocations in order of receipt, each kept for `retainMs`. Times are monotonic milliseconds. */
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
     * Adds a revocation. If the set is full it is dropped, and {@link RevocationSet.isComplete} reports that.
     *
     * @param {Revocation} revocation
     * @param {number} now
     */
    add(revocation: Revocation, now: number): void;
    /**
     * Evicts revocations that can no longer affect an unexpired token.
     *
     * @param {number} now
     */
    evictExpired(now: number): void;
    /**
     * Whether every revocation that still matters fitted.
     *
     * @param {number} now
     */
    isComplete(now: number): boolean;
    /**
     * Whether a token with these claims, signed by the key `kid`, is revoked.
     *
     * @param {string} kid
     * @param {Pick<import("./claims.js").Claims, "sub" | "sid" | "authTime">} claims
     */
    revokes(kid: string, { sub, sid, authTime }: Pick<import("./claims.js").Claims, "sub" | "sid" | "authTime">): boolean;
    /**
     * Whether the signing key is retired.
     *
     * @param {string} kid
     */
    revokesKey(kid: string): boolean;
    #private;
}
/**
 * Ends one session; or the sessions of an account that began before a second, except
 *   perhaps one; or retires a signing key.
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
};
export type AccountRevocation = Extract<Revocation, {
    kind: "account";
}>;
