/**
 * The revocation that an event's data tells of.
 *
 * @param {Record<string, unknown>} data
 * @returns {Revocation}
 * @throws {Malformed} for a kind that isn't known, which must be taken for a gap, and for what lacks a member
 */
export function readRevocation(data: Record<string, unknown>): Revocation;
/** Revocations, each kept for a time after it was heard of, up to a number. Times are monotonic milliseconds. */
export class Revocations {
    /**
     * @param {number} maxEntries
     * @param {number} retainMs how long each is kept, at the least
     */
    constructor(maxEntries: number, retainMs: number);
    retainMs: number;
    /** How many are remembered. */
    get size(): number;
    /**
     * Remembers it. Where the memory is full it is left out, and {@link Revocations.isComplete} says so.
     *
     * @param {Revocation} revocation
     * @param {number} now
     */
    add(revocation: Revocation, now: number): void;
    /**
     * Drops those that no living token can be touched by any more.
     *
     * @param {number} now
     */
    expire(now: number): void;
    /**
     * Whether nothing that matters was left out for want of room.
     *
     * @param {number} now
     */
    isComplete(now: number): boolean;
    /**
     * Whether a token that this key signed and that says this has been revoked.
     *
     * @param {string} kid
     * @param {import("./claims.js").Claims} claims
     */
    ends(kid: string, { sub, sid, authTime }: import("./claims.js").Claims): boolean;
    /**
     * Whether the key was taken out of use.
     *
     * @param {string} kid
     */
    endsKey(kid: string): boolean;
    #private;
}
/**
 * One session; all sessions of an account that began before a second, but perhaps
 *   one; or all that a key has signed.
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
