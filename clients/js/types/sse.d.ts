/** The maximum length of an event, without its line ends. A longer event is a protocol error, which ends the connection. */
export const MAX_EVENT_BYTES: number;
/**
 * @typedef {object} Event
 * @property {string} type
 * @property {string} data
 * @property {string} [id] The last event id, of this or an earlier event: the position to resume from.
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
     * The last event id, of this or an earlier event: the position to resume from.
     */
    id?: string | undefined;
};
