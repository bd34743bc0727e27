/** A callback that `onEnd` has registered. The registration is active until it ends or is closed. */
export class Registration {
    /**
     * @internal
     * @param {EndRegistry} registry
     * @param {Session} session
     * @param {Claims} claims
     * @param {(cause: EndCause) => unknown} callback
     * @param {number} since the time of the registration, by the monotonic clock
     */
    constructor(registry: EndRegistry, session: Session, claims: Claims, callback: (cause: EndCause) => unknown, since: number);
    /** The claims of the token that was registered, or with which the registration was last renewed. */
    get claims(): Readonly<import("./claims.js").Claims>;
    /** Why the registration has ended; undefined while it is active, or if {@link Registration.close} was called first. */
    get ended(): EndCause | undefined;
    /**
     * A signal that is aborted when the registration ends, with the cause as its reason.
     *
     * @returns {AbortSignal}
     */
    get signal(): AbortSignal;
    /**
     * Verifies a newer token of the same session, as `Verifier.verify` does, and replaces the registered token by it: its expiry
     * and its claims apply from now on. Unlike `Verifier.verify`, it does not end this registration when the claims are newer.
     *
     * @param {string} token
     * @returns {Promise<Claims>} the claims of the newer token
     * @throws {RenewError} if the registration has ended or is closed, or the token belongs to another session
     * @throws {import("./errors.js").InvalidToken} if the token is not valid; the registration is unchanged
     * @throws {Unavailable} if the validity cannot be decided now; the registration is unchanged
     */
    renew(token: string): Promise<Claims>;
    /**
     * @internal
     * @param {Claims} claims of a verified token
     */
    renewWith(claims: Claims): void;
    /** Deregisters. Afterwards the callback is not called. May be repeated. */
    close(): void;
    /** @internal When the registration was made or last renewed, by the monotonic clock. */
    get since(): number;
    /**
     * @internal
     * @param {EndCause} cause
     */
    end(cause: EndCause): void;
    #private;
}
/** Indexes the registrations by session, account, key and expiry, to find those that an event ends. All registrations share one timer. */
export class EndRegistry {
    /**
     * @param {Settings} settings
     * @param {Environment} environment
     */
    constructor(settings: Settings, environment: Environment);
    /** The number of registrations. */
    get size(): number;
    /** The number of entries of all indexes, for tests. */
    get indexed(): number;
    /**
     * Registers a callback, which is called at most once. If the session has ended already, it is called before this method returns.
     *
     * @param {Claims} claims
     * @param {(cause: EndCause) => unknown} callback
     * @returns {Registration}
     * @throws {Unavailable} if there are `maxRegistrations` already
     */
    register(claims: Claims, callback: (cause: EndCause) => unknown): Registration;
    /**
     * Verifies a token with which a registration may be renewed.
     *
     * @param {string} token
     */
    verify(token: string): Promise<Readonly<import("./claims.js").Claims>>;
    /**
     * Records the newer token of a registration.
     *
     * @param {Registration} registration
     * @param {Session} session
     * @param {Claims} claims
     * @returns {number} the time of the renewal, by the monotonic clock
     */
    renew(registration: Registration, session: Session, claims: Claims): number;
    /**
     * Removes a registration, and its session if no other registration is left.
     *
     * @param {Registration} registration
     * @param {Session} session
     */
    remove(registration: Registration, session: Session): void;
    /**
     * Records a token that the verifier accepted: it may be the successor of a registered session's last known token.
     *
     * @param {Claims} claims
     */
    onAccepted(claims: Claims): void;
    /** @param {import("./revocations.js").Revocation} revocation */
    onRevocation(revocation: import("./revocations.js").Revocation): void;
    /**
     * Ends the registrations of keys that are no longer published.
     *
     * @param {(kid: string) => boolean} isPublished
     */
    onKeysReplaced(isPublished: (kid: string) => boolean): void;
    /**
     * Ends the registrations whose session's last known token has expired. If the feed has been silent for longer than
     * `endAfterSilenceMs`, also ends the registrations that are older than `endAfterSilenceMs`. The timer calls this function.
     */
    endExpired(): void;
    /** Ends all registrations, because a closed verifier receives no revocations. */
    close(): void;
    /**
     * Logs that a callback has failed.
     *
     * @param {unknown} error
     */
    logFailure(error: unknown): void;
    #private;
}
export type Claims = Readonly<import("./claims.js").Claims>;
/**
 * Why a registration ended. The codes are stable and the same in Latchkey's Rust and Python packages.
 */
export type EndCause = "session_revoked" | "account_revoked" | "key_retired" | "claims_changed" | "token_expired" | "feed_lost";
export type Settings = {
    /**
     * how long after its `exp` a token is still accepted
     */
    leewayMs: number;
    maxRegistrations: number;
    /**
     * the silence of the feed after which registrations end
     */
    endAfterSilenceMs: number;
    log: (message: string) => void;
};
/**
 * The state of the verifier, and the clocks.
 */
export type Environment = {
    /**
     * verifies a token without a call of `onAccepted`
     */
    verify: (token: string) => Promise<Claims>;
    /**
     * the key that signed the token of these claims
     */
    kidOf: (claims: Claims) => string | undefined;
    /**
     * why a token with this key and these claims is refused now
     */
    causeOf: (kid: string | undefined, claims: Claims) => EndCause | undefined;
    /**
     * how long the feed has been silent: the milliseconds since the verifier last had every revocation
     */
    silentMs: () => number;
    /**
     * the wall clock, in milliseconds since 1970
     */
    now: () => number;
    /**
     * a monotonic clock, in milliseconds
     */
    elapsed: () => number;
};
/** A session with at least one registration. A service client's own token has no `sid`: each of its registrations has a `Session` to itself. */
declare class Session {
    /**
     * @param {Claims} claims
     * @param {string | undefined} kid the key of the session's last known token
     */
    constructor(claims: Claims, kid: string | undefined);
    /** @type {Set<Registration>} */
    registrations: Set<Registration>;
    /** The highest version of the account's claims that a token of the session had. @type {number | undefined} */
    claimsVersion: number | undefined;
    sid: string | undefined;
    account: string;
    /** When the session's last known token expires, in seconds since 1970. */
    exp: number;
    kid: string | undefined;
}
export {};
