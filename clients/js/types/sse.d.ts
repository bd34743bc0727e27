/** A longer event is a protocol error and ends the connection. */
export const MAX_EVENT_LENGTH: number;
/**
 * @typedef {object} Event
 * @property {string} type
 * @property {string} data
 * @property {string} [id] The event's own id. A feed cannot be resumed from an event without an id.
 */
/** Parses the chunks of one connection, whatever their size. */
export class Parser {
    /**
     * Yields the events that the chunk completes.
     *
     * @param {Uint8Array} chunk
     * @returns {Generator<Event, void, void>}
     * @throws {ProtocolError} if an event is too long or not UTF-8
     */
    feed(chunk: Uint8Array): Generator<Event, void, void>;
    #private;
}
export type Event = {
    type: string;
    data: string;
    /**
     * The event's own id. A feed cannot be resumed from an event without an id.
     */
    id?: string | undefined;
};
