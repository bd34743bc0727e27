/** @typedef {{ keys: string, introspection: string, revocations: string }} Endpoints Where things are (RFC 8414). */
/** The one issuer whose tokens count here. */
export class Issuer {
    /** @param {Readonly<import("./settings.js").Settings>} settings */
    constructor(settings: Readonly<import("./settings.js").Settings>);
    /** Gives up requests that are under way; the feed has a signal of its own. */
    close(): void;
    /** The keys as they are published now. */
    keys(): Promise<Map<string, import("./jwks.js").Key>>;
    /**
     * What Latchkey itself says of the token (RFC 7662).
     *
     * @param {string} token
     * @returns {Promise<boolean>}
     * @throws {Error} where it says nothing in time
     */
    isActive(token: string): Promise<boolean>;
    /**
     * The bytes of the feed, from after an event on, or from a snapshot on. Whoever reads them minds the time.
     *
     * @param {string | undefined} lastEventId
     * @param {AbortSignal} signal ends it
     * @returns {Promise<ReadableStreamDefaultReader<Uint8Array>>}
     */
    feed(lastEventId: string | undefined, signal: AbortSignal): Promise<ReadableStreamDefaultReader<Uint8Array>>;
    #private;
}
/**
 * Where things are (RFC 8414).
 */
export type Endpoints = {
    keys: string;
    introspection: string;
    revocations: string;
};
