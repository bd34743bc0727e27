/** A subscription to the feed. Its revocations stay in force across reconnects. */
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
     * Why the local revocations refuse the token; undefined if they don't.
     *
     * @param {string | undefined} kid
     * @param {import("./revocations.js").SessionClaims} claims
     */
    causeOf(kid: string | undefined, claims: import("./revocations.js").SessionClaims): import("./revocations.js").RevocationCause | undefined;
    /**
     * Whether the signing key is retired: by the local revocations, or by a snapshot that is still being received.
     *
     * @param {string} kid
     */
    revokesKey(kid: string): boolean;
    /** The milliseconds since the verifier last had every revocation that the feed had sent. */
    get silentMs(): number;
    /** Whether every revocation older than `maxStalenessMs` is known locally. */
    isCurrent(): boolean;
    /**
     * Waits at most `timeoutMs` until the first snapshot is complete. Resolves to whether the snapshot is complete.
     *
     * @param {number} timeoutMs
     * @returns {Promise<boolean>}
     */
    waitLive(timeoutMs: number): Promise<boolean>;
    /**
     * Follows the feed until `closing` is aborted, and reconnects after each interruption.
     *
     * @param {AbortSignal} closing The signal that ends the subscription.
     */
    run(closing: AbortSignal): Promise<void>;
    #private;
}
