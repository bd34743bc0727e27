/** An event that is longer is no event of a feed, and ends the connection. */
export const MAX_EVENT_LENGTH: number;
/**
 * @typedef {object} Event
 * @property {string} type
 * @property {string} data
 * @property {string} [id] That of this very event, not the last one's: those without one are no place to resume at.
 */
/** Takes bytes in pieces of any size and gives the events that are complete. One parser for one connection. */
export class Parser {
    /**
     * The events that this piece completes.
     *
     * @param {Uint8Array} chunk
     * @returns {Generator<Event, void, void>}
     * @throws {Malformed} where an event is too long or not UTF-8
     */
    feed(chunk: Uint8Array): Generator<Event, void, void>;
    #private;
}
export type Event = {
    type: string;
    data: string;
    /**
     * That of this very event, not the last one's: those without one are no place to resume at.
     */
    id?: string | undefined;
};
