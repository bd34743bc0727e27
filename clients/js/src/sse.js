/** Parses server-sent events from bytes (HTML, section 9.2.6). */

import { ProtocolError } from "./errors.js";

/** The maximum length of an event. A longer event is a protocol error, which ends the connection. */
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
  #buffer = "";
  /** The bytes of the incomplete event, without those of its incomplete line. */
  #bytes = 0;
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
    const text = this.#buffer + this.#decode(chunk);
    // The LF of a CRLF may be in the next chunk.
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\r|\n/);
    this.#buffer = lines.pop() + text.slice(end);
    for (const line of lines) {
      this.#bytes += Buffer.byteLength(line);
      this.#checkLength();
      if (line !== "") this.#parseLine(line);
      else {
        if (this.#data.length > 0) yield this.#event();
        this.#reset();
      }
    }
    this.#checkLength(this.#buffer);
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
   * Checks the length of the incomplete event, including its incomplete line.
   *
   * @throws {ProtocolError} if it is too long
   */
  #checkLength(incompleteLine = "") {
    if (this.#bytes + Buffer.byteLength(incompleteLine) > MAX_EVENT_BYTES) throw new ProtocolError("an event of the feed is too long");
  }

  /** @param {string} line */
  #parseLine(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#type = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    // Comments, `retry` and unknown fields are ignored.
  }

  /** @returns {Event} */
  #event() {
    const event = { type: this.#type || "message", data: this.#data.join("\n") };
    return this.#id === undefined ? event : { ...event, id: this.#id };
  }

  #reset() {
    [this.#type, this.#data, this.#bytes] = ["", [], 0];
  }
}
