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
     * Connects in the background and does not wait for Latchkey. Until the feed has caught up, `feedLost` applies.
     *
     * @param {import("./settings.js").Options} options
     * @throws {import("./errors.js").LatchkeyError} for invalid options
     */
    constructor(options: import("./settings.js").Options);
    /** Whether the revocations are up to date, so that tokens are verified locally. Otherwise `feedLost` applies. */
    get live(): boolean;
    /**
     * Waits at most `timeoutMs` until the feed has caught up for the first time.
     *
     * @param {number} timeoutMs
     * @returns {Promise<boolean>} whether it has
     */
    waitLive(timeoutMs?: number): Promise<boolean>;
    /**
     * The claims of a valid token whose session has not ended.
     *
     * @param {string} text
     * @returns {Promise<Readonly<import("./claims.js").Claims>>}
     * @throws {InvalidToken} if the token is not valid
     * @throws {Unavailable} if that cannot be decided now
     */
    verify(text: string): Promise<Readonly<import("./claims.js").Claims>>;
    /** Disconnects. After that nothing of the verifier keeps the process alive. */
    close(): Promise<void>;
    #private;
}
