/**
 * Creates a verifier, which follows Latchkey until it is closed.
 *
 * @param {import("./settings.js").Options} options
 * @returns {Verifier}
 * @throws {import("./errors.js").LatchkeyError} for invalid options
 */
export function createVerifier(options: import("./settings.js").Options): Verifier;
/** Verifies access tokens locally while it follows Latchkey's revocations. Use one per process. */
export class Verifier {
    /**
     * Starts to connect in the background. Until the feed has caught up, the option `feedLost` says how tokens are handled.
     *
     * @param {import("./settings.js").Options} options
     * @throws {import("./errors.js").LatchkeyError} for invalid options
     */
    constructor(options: import("./settings.js").Options);
    /** Whether the revocations are up to date, so that tokens are verified locally. Otherwise the option `feedLost` applies. */
    get live(): boolean;
    /** The number of registrations of {@link Verifier.onEnd} that have neither ended nor been closed. */
    get registrations(): number;
    /**
     * Waits at most `timeoutMs` until the feed has caught up for the first time.
     *
     * @param {number} timeoutMs
     * @returns {Promise<boolean>} whether the feed has caught up
     */
    waitLive(timeoutMs?: number): Promise<boolean>;
    /**
     * Verifies an access token, and returns its claims. A token whose session has ended, or whose account's claims have changed, is not valid.
     *
     * @param {string} text
     * @returns {Promise<Readonly<import("./claims.js").Claims>>}
     * @throws {InvalidToken} if the token is not valid
     * @throws {Unavailable} if the validity cannot be decided now
     */
    verify(text: string): Promise<Readonly<import("./claims.js").Claims>>;
    /**
     * Registers an open connection or a long job. The callback is called once, with the cause, when the session of these claims
     * ends, the claims of its account change, its last known token expires, or the feed is lost for `endAfterSilenceMs`. If one
     * of these has already happened, the callback is called before this method returns. Any newer token of the session that
     * {@link Verifier.verify} accepts keeps the registration alive, unless its claims are newer: then the registration ends. A token
     * that is passed to the registration's `renew` does not end that registration.
     *
     * Close the registration when the connection is closed or the job is done.
     *
     * @param {Readonly<import("./claims.js").Claims>} claims that {@link Verifier.verify} returned
     * @param {(cause: import("./end-registry.js").EndCause) => unknown} callback An error that it throws is logged.
     * @returns {import("./end-registry.js").Registration}
     * @throws {Unavailable} if there are `maxRegistrations` already
     */
    onEnd(claims: Readonly<import("./claims.js").Claims>, callback: (cause: import("./end-registry.js").EndCause) => unknown): import("./end-registry.js").Registration;
    /** Disconnects and ends all registrations. After that nothing of the verifier keeps the process alive. */
    close(): Promise<void>;
    #private;
}
