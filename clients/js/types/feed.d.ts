/** One subscriber. It keeps its revocations across reconnects, and reports when they become stale. */
export class RevocationFeed {
    /**
     * @param {import("./issuer.js").IssuerClient} issuer
     * @param {Readonly<import("./settings.js").Settings>} settings
     */
    constructor(issuer: import("./issuer.js").IssuerClient, settings: Readonly<import("./settings.js").Settings>);
    /** Called with every revocation and change of claims, also with those that do not fit into memory. @type {(revocation: import("./revocations.js").Revocation) => void} */
    onRevocation: (revocation: import("./revocations.js").Revocation) => void;
    /** Called when a connection after the first has caught up. @type {() => void} */
    onReconnected: () => void;
    /**
     * Why the token is known to be refused.
     *
     * @param {string | undefined} kid
     * @param {import("./revocations.js").SessionClaims} claims
     */
    causeOf(kid: string | undefined, claims: import("./revocations.js").SessionClaims): import("./revocations.js").RevocationCause | undefined;
    /**
     * Whether the signing key is known to be retired.
     *
     * @param {string} kid
     */
    revokesKey(kid: string): boolean;
    /** The milliseconds since every revocation was known locally. */
    get silentMs(): number;
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
