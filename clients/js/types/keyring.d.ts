/**
 * Waits for `ms` milliseconds, or until `signal` aborts. Does not keep the process running.
 *
 * @param {number} ms
 * @param {AbortSignal} signal
 */
export function pause(ms: number, signal: AbortSignal): Promise<void>;
/** @typedef {Map<string, import("./jwks.js").Key>} Keys */
/** The issuer's keys. Keeps them while the issuer is unreachable, and drops a key that the issuer no longer publishes. */
export class KeyRing {
    /**
     * @param {() => Promise<Keys>} fetch
     * @param {(kid: string) => boolean} isRetired reports keys that must not return, even if an HTTP cache still publishes them
     * @param {Readonly<import("./settings.js").Settings>} settings
     */
    constructor(fetch: () => Promise<Keys>, isRetired: (kid: string) => boolean, settings: Readonly<import("./settings.js").Settings>);
    /**
     * Called when the keys were replaced, with a function that reports whether a key is still published.
     *
     * @type {(isPublished: (kid: string) => boolean) => void}
     */
    onReplaced: (isPublished: (kid: string) => boolean) => void;
    /**
     * The key named `kid`. An unknown `kid` triggers a refresh, at most once per `keysCooldownMs`.
     *
     * @param {string} kid
     * @throws {InvalidToken} if the issuer publishes no such key
     * @throws {Unavailable} if the issuer is unreachable
     */
    get(kid: string): Promise<import("./jwks.js").Key>;
    /**
     * Whether the issuer published the key at the last refresh, and it is not retired.
     *
     * @param {string} kid
     */
    has(kid: string): boolean;
    /**
     * Drops a key at once, and requests a refresh.
     *
     * @param {string} kid
     */
    retire(kid: string): void;
    /** Makes {@link KeyRing.run} refresh the keys soon. */
    requestRefresh(): void;
    /**
     * Refreshes the keys now and every `keysMaxAgeMs`.
     *
     * @param {AbortSignal} closing The signal that ends the refreshes.
     */
    run(closing: AbortSignal): Promise<void>;
    #private;
}
export type Keys = Map<string, import("./jwks.js").Key>;
