/**
 * A verifier that follows Latchkey until it is closed.
 *
 * @param {import("./settings.js").Options} options
 * @returns {Verifier}
 * @throws {import("./errors.js").LatchkeyError} for options that can't work
 */
export function createVerifier(options: import("./settings.js").Options): Verifier;
/** Checks access tokens in memory while it follows what Latchkey revokes. One for each process. */
export class Verifier {
    /**
     * Starts following. Doesn't wait for Latchkey: until the feed has caught up, tokens are treated as `feedLost` says.
     *
     * @param {import("./settings.js").Options} options
     * @throws {import("./errors.js").LatchkeyError} for options that can't work
     */
    constructor(options: import("./settings.js").Options);
    /** Whether tokens are checked in memory now; otherwise as `feedLost` says. */
    get live(): boolean;
    /**
     * Waits until the feed has caught up for the first time.
     *
     * @param {number} timeoutMs
     * @returns {Promise<boolean>} whether it has
     */
    waitLive(timeoutMs?: number): Promise<boolean>;
    /**
     * What the token says, if it is good and its session hasn't ended.
     *
     * @param {string} text
     * @returns {Promise<Readonly<import("./claims.js").Claims>>}
     * @throws {InvalidToken} if it isn't
     * @throws {Unavailable} if that can't be known now
     */
    verify(text: string): Promise<Readonly<import("./claims.js").Claims>>;
    /** Stops following. Nothing of it keeps the process alive after that. */
    close(): Promise<void>;
    #private;
}
