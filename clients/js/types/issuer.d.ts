/** @typedef {{ keys: string, introspection: string, revocations: string }} Endpoints The endpoints of the issuer (RFC 8414). */
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
     * Opens the feed after an event, or with a snapshot if `lastEventId` is undefined. The caller enforces read timeouts.
     *
     * @param {string | undefined} lastEventId
     * @param {AbortSignal} signal The signal that closes the feed.
     * @returns {Promise<ReadableStreamDefaultReader<Uint8Array>>}
     */
    openFeed(lastEventId: string | undefined, signal: AbortSignal): Promise<ReadableStreamDefaultReader<Uint8Array>>;
    #private;
}
/**
 * The endpoints of the issuer (RFC 8414).
 */
export type Endpoints = {
    keys: string;
    introspection: string;
    revocations: string;
};
