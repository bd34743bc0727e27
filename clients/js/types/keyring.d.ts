/**
 * Waits so long, or until it is told not to.
 *
 * @param {number} ms
 * @param {AbortSignal} signal
 */
export function pause(ms: number, signal: AbortSignal): Promise<void>;
/** @typedef {Map<string, import("./jwks.js").Key>} Keys */
/** Keeps keys while the issuer is away, and lets go of those that it no longer publishes. */
export class KeyRing {
    /**
     * @param {() => Promise<Keys>} fetch
     * @param {(kid: string) => boolean} isRetired tells of keys that must not come back, though a cache in between may still
     *   publish them
     * @param {Readonly<import("./settings.js").Settings>} settings
     */
    constructor(fetch: () => Promise<Keys>, isRetired: (kid: string) => boolean, settings: Readonly<import("./settings.js").Settings>);
    /**
     * The key of this name. An unknown one has the keys fetched, so often and no more.
     *
     * @param {string} kid
     * @throws {InvalidToken} where the issuer has no such key
     * @throws {Unavailable} where it can't be asked
     */
    require(kid: string): Promise<import("./jwks.js").Key>;
    /**
     * Lets go of a key at once.
     *
     * @param {string} kid
     */
    retire(kid: string): void;
    /** Has the keys fetched soon. */
    look(): void;
    /**
     * Fetches the keys now, and again before they get old.
     *
     * @param {AbortSignal} closing ends it
     */
    keep(closing: AbortSignal): Promise<void>;
    #private;
}
export type Keys = Map<string, import("./jwks.js").Key>;
