/**
 * The options with the defaults for what isn't said.
 *
 * @param {Options} options
 * @returns {Readonly<Settings>}
 * @throws {LatchkeyError} for values that can't work
 */
export function settingsOf(options: Options): Readonly<Settings>;
/**
 * How tokens are checked. Times are in milliseconds.
 */
export type Options = {
    /**
     * Latchkey's issuer, letter by letter as in its tokens: a URL without a slash at its end.
     */
    issuer: string;
    /**
     * What must be among the `aud` of a token.
     */
    audience: string;
    /**
     * The name of the service client, from `latchkey client add`.
     */
    clientId: string;
    /**
     * Its secret. Doesn't print.
     */
    clientSecret: string;
    /**
     * What happens to tokens while the feed is lost: Latchkey is asked about each
     * (the default), or none is let in.
     */
    feedLost?: "introspect" | "refuse" | undefined;
    /**
     * How long what is known is trusted without a sign of life from the feed: 5000. Well above
     * its heartbeat of one second.
     */
    maxStalenessMs?: number | undefined;
    /**
     * How far clocks may be apart, for `exp`, `nbf` and `iat`: 5000. At most a minute.
     */
    leewayMs?: number | undefined;
    /**
     * For metadata and keys, and for connecting to the feed: 5000.
     */
    requestTimeoutMs?: number | undefined;
    /**
     * For asking about one token: 1000.
     */
    introspectionTimeoutMs?: number | undefined;
    /**
     * How often keys are fetched anew though no unknown one was seen: 300000.
     */
    keysMaxAgeMs?: number | undefined;
    /**
     * The least time between two fetches on account of unknown keys: 2000.
     */
    keysCooldownMs?: number | undefined;
    /**
     * Revocations remembered: 100000. Where there are more, it is as if the feed were lost until
     * enough have expired.
     */
    maxRevocations?: number | undefined;
    /**
     * For those who need another than Node's own.
     */
    fetch?: typeof fetch | undefined;
    /**
     * Is told what goes wrong with the feed and the keys; nobody by default.
     */
    log?: ((message: string) => void) | undefined;
};
export type Settings = Required<Options>;
