/** @typedef {{ keysUrl: string, introspectionUrl: string, revocationsUrl: string }} Endpoints From the metadata (RFC 8414). */
/** Sends requests to one issuer. */
export class IssuerClient {
    /** @param {Readonly<import("./settings.js").Settings>} settings */
    constructor(settings: Readonly<import("./settings.js").Settings>);
    /** Aborts the requests in flight, except the feed's, which has a signal of its own. */
    close(): void;
    /** Fetches the published keys. */
    keys(): Promise<Map<string, import("./jwks.js").Key>>;
    /**
     * Asks Latchkey whether the token is active (RFC 7662).
     *
     * @param {string} token
     * @returns {Promise<boolean>}
     * @throws {Error} if there is no valid response in time
     */
    introspect(token: string): Promise<boolean>;
    /**
     * Opens the feed. The first events are those after `lastEventId`, or a snapshot if it is undefined. The caller enforces read
     * timeouts.
     *
     * @param {string | undefined} lastEventId
     * @param {AbortSignal} signal The signal that closes the feed.
     * @returns {Promise<ReadableStreamDefaultReader<Uint8Array>>}
     */
    openFeed(lastEventId: string | undefined, signal: AbortSignal): Promise<ReadableStreamDefaultReader<Uint8Array>>;
    #private;
}
/**
 * From the metadata (RFC 8414).
 */
export type Endpoints = {
    keysUrl: string;
    introspectionUrl: string;
    revocationsUrl: string;
};
