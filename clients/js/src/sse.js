/** Parses server-sent events from bytes (HTML, section 9.2.6). */

import { ProtocolError } from "./errors.js";

/** The maximum length of an event, without its line ends. A longer event is a protocol error, which ends the connection. */
export const MAX_EVENT_BYTES = 64 * 1024;

/**
 * @typedef {object} Event
 * @property {string} type
 * @property {string} data
 * @property {string} [id] The last event id, of this or an earlier event: the position to resume from.
 */

/** Parses the chunks of one connection, whatever their size. */
export class Parser {
  #decoder = new TextDecoder("utf-8", { fatal: true });
  /** The incomplete last line of the chunks so far. */
  #incompleteLine = "";
  /** The length of the complete lines of the incomplete event, in bytes. */
  #completeBytes = 0;
  #type = "";
  /** @type {string[]} */
  #data = [];
  /** The last event id. Events without an `id` field do not change it. @type {string | undefined} */
  #id;

  /**
   * Yields the events that the chunk completes.
   *
   * @param {Uint8Array} chunk
   * @returns {Generator<Event, void, void>}
   * @throws {ProtocolError} if an event is too long or not UTF-8
   */
  *feed(chunk) {
    const text = this.#incompleteLine + this.#decode(chunk);
    // A CR at the end waits for the next chunk, which may begin with the LF of a CRLF.
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\r|\n/);
    this.#incompleteLine = lines.pop() + text.slice(end);
    for (const line of lines) {
      this.#completeBytes += Buffer.byteLength(line);
      this.#checkLength(this.#completeBytes);
      if (line !== "") this.#parseLine(line);
      else {
        // An empty line ends an event. An event without data is not reported, but its `id` counts.
        if (this.#data.length > 0) yield this.#event();
        this.#reset();
      }
    }
    this.#checkLength(this.#completeBytes + Buffer.byteLength(this.#incompleteLine));
  }

  /** @param {Uint8Array} chunk */
  #decode(chunk) {
    try {
      return this.#decoder.decode(chunk, { stream: true });
    } catch {
      throw new ProtocolError("the feed is not UTF-8");
    }
  }

  /**
   * @param {number} bytes The length of the incomplete event
   * @throws {ProtocolError} if it is too long
   */
  #checkLength(bytes) {
    if (bytes > MAX_EVENT_BYTES) throw new ProtocolError("an event of the feed is too long");
  }

  /** @param {string} line */
  #parseLine(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#type = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    // Ignored: unknown fields, `retry`, and comments, which begin with a colon and so have the field name "".
  }

  /** @returns {Event} */
  #event() {
    const event = { type: this.#type || "message", data: this.#data.join("\n") };
    return this.#id === undefined ? event : { ...event, id: this.#id };
  }

  #reset() {
    this.#type = "";
    this.#data = [];
    this.#completeBytes = 0;
  }
}
