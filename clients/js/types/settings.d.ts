/**
 * Validates options and adds defaults.
 *
 * @param {Options} options
 * @returns {Readonly<Settings>}
 * @throws {LatchkeyError} for invalid values
 */
export function settingsOf(options: Options): Readonly<Settings>;
/**
 * How tokens are verified. Durations are in milliseconds. A value after a colon is the default.
 */
export type Options = {
    /**
     * Latchkey's issuer, exactly as in its tokens: a URL without a trailing slash.
     */
    issuer: string;
    /**
     * The audience that a token's `aud` must contain.
     */
    audience: string;
    /**
     * The id of the service client that `latchkey client add` created.
     */
    clientId: string;
    /**
     * The secret of the service client. It is never printed.
     */
    clientSecret: string;
    /**
     * The handling of tokens while the feed is lost: each is introspected (the
     * default), or all are refused with `Unavailable`.
     */
    feedLost?: "introspect" | "refuse" | undefined;
    /**
     * How long the revocations in memory count as up to date without an event of the feed: 5000.
     * Then the feed counts as lost. The feed has an event every second at least: its heartbeat.
     */
    maxStalenessMs?: number | undefined;
    /**
     * The clock skew that is tolerated for `exp`, `nbf` and `iat`: 5000. At most a minute.
     */
    leewayMs?: number | undefined;
    /**
     * The timeout of metadata and key requests, and of connecting to the feed: 5000.
     */
    requestTimeoutMs?: number | undefined;
    /**
     * The timeout of one introspection: 1000.
     */
    introspectionTimeoutMs?: number | undefined;
    /**
     * How often metadata and keys are refreshed: 300000.
     */
    keysMaxAgeMs?: number | undefined;
    /**
     * The minimum time between two refreshes that tokens with an unknown key id trigger: 2000.
     */
    keysCooldownMs?: number | undefined;
    /**
     * The maximum number of revocations in memory: 100000. With more, the feed counts as lost
     * until enough have expired.
     */
    maxRevocations?: number | undefined;
    /**
     * The maximum number of registrations of `onEnd`, which open connections and responses hold:
     * 100000. Above it, `onEnd` throws `Unavailable` and the middlewares answer 503.
     */
    maxRegistrations?: number | undefined;
    /**
     * How long registrations of `onEnd` stay without up-to-date revocations before they end with
     * `feed_lost`: the value of `maxStalenessMs`, which is also the minimum.
     */
    endAfterSilenceMs?: number | undefined;
    /**
     * A replacement for Node's own `fetch`.
     */
    fetch?: typeof fetch | undefined;
    /**
     * Receives warnings about the feed and the keys. By default they go to `console.warn`;
     * `() => {}` turns them off.
     */
    log?: ((message: string) => void) | undefined;
};
export type Settings = Required<Options>;
