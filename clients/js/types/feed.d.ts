/** One subscriber. It keeps its revocations across reconnects, and reports when they become stale. */
export class RevocationFeed {
    /**
     * @param {import("./issuer.js").IssuerClient} issuer
     * @param {Readonly<import("./settings.js").Settings>} settings
     */
    constructor(issuer: import("./issuer.js").IssuerClient, settings: Readonly<import("./settings.js").Settings>);
    /** Called with the `kid` of a retired key. @type {(kid: string) => void} */
    onKeyRetired: (kid: string) => void;
    /** Called when a connection after the first has caught up. @type {() => void} */
    onReconnected: () => void;
    /**
     * Whether the token is known to be revoked.
     *
     * @param {string} kid
     * @param {import("./claims.js").Claims} claims
     */
    revokes(kid: string, claims: import("./claims.js").Claims): boolean;
    /**
     * Whether the signing key is known to be retired.
     *
     * @param {string} kid
     */
    revokesKey(kid: string): boolean;
    /** Whether every revocation older than `maxStalenessMs` is known locally. */
    isCurrent(): boolean;
    /**
     * Waits until the first snapshot is complete, at most `timeoutMs`; resolves to whether it is.
     *
     * @param {number} timeoutMs
     * @returns {Promise<boolean>}
     */
    waitLive(timeoutMs: number): Promise<boolean>;
    /**
     * Connects and reconnects.
     *
     * @param {AbortSignal} closing ends it
     */
    run(closing: AbortSignal): Promise<void>;
    #private;
}
