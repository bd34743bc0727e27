/** One follower. It keeps what it knows while it reconnects, and says for how long that can be trusted. */
export class Feed {
    /**
     * @param {import("./issuer.js").Issuer} issuer
     * @param {Readonly<import("./settings.js").Settings>} settings
     */
    constructor(issuer: import("./issuer.js").Issuer, settings: Readonly<import("./settings.js").Settings>);
    /** Is told of keys that were taken out of use. @type {(kid: string) => void} */
    onKey: (kid: string) => void;
    /** Is told when a connection after the first has caught up. @type {() => void} */
    onLive: () => void;
    /**
     * Whether the token is known to have been revoked.
     *
     * @param {string} kid
     * @param {import("./claims.js").Claims} claims
     */
    ends(kid: string, claims: import("./claims.js").Claims): boolean;
    /**
     * Whether the key is known to have been taken out of use.
     *
     * @param {string} kid
     */
    endsKey(kid: string): boolean;
    /** Whether everything that was revoked longer ago than `maxStalenessMs` is known here. */
    isTrusted(): boolean;
    /**
     * Waits until the first snapshot is complete, or so long; says whether it is.
     *
     * @param {number} timeoutMs
     * @returns {Promise<boolean>}
     */
    waitLive(timeoutMs: number): Promise<boolean>;
    /**
     * Connects again and again.
     *
     * @param {AbortSignal} closing ends it
     */
    follow(closing: AbortSignal): Promise<void>;
    #private;
}
