/** Server-sent events from bytes (HTML, section 9.2.6). */

import { Malformed } from "./errors.js";

/** An event that is longer is no event of a feed, and ends the connection. */
export const MAX_EVENT_LENGTH = 64 * 1024;

/**
 * @typedef {object} Event
 * @property {string} type
 * @property {string} data
 * @property {string} [id] That of this very event, not the last one's: those without one are no place to resume at.
 */

/** Takes bytes in pieces of any size and gives the events that are complete. One parser for one connection. */
export class Parser {
  #decoder = new TextDecoder("utf-8", { fatal: true });
  #rest = "";
  #length = 0;
  #type = "";
  /** @type {string[]} */
  #data = [];
  /** @type {string | undefined} */
  #id;

  /**
   * The events that this piece completes.
   *
   * @param {Uint8Array} chunk
   * @returns {Generator<Event, void, void>}
   * @throws {Malformed} where an event is too long or not UTF-8
   */
  *feed(chunk) {
    const text = this.#rest + this.#decode(chunk);
    // the LF of a CR LF may be in the next piece
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() + text.slice(end);
    for (const line of lines) {
      this.#length += line.length;
      this.#refuseLong(0);
      if (line !== "") this.#take(line);
      else {
        if (this.#data.length > 0) yield this.#event();
        this.#clear();
      }
    }
    this.#refuseLong(this.#rest.length);
  }

  /** @param {Uint8Array} chunk */
  #decode(chunk) {
    try {
      return this.#decoder.decode(chunk, { stream: true });
    } catch {
      throw new Malformed("the feed is not UTF-8");
    }
  }

  /** @param {number} more */
  #refuseLong(more) {
    if (this.#length + more > MAX_EVENT_LENGTH) throw new Malformed("an event of the feed is too long");
  }

  /** @param {string} line */
  #take(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#type = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    // comments, `retry` and what is unknown mean nothing here
  }

  /** @returns {Event} */
  #event() {
    const event = { type: this.#type || "message", data: this.#data.join("\n") };
    return this.#id === undefined ? event : { ...event, id: this.#id };
  }

  #clear() {
    [this.#type, this.#data, this.#id, this.#length] = ["", [], undefined, 0];
  }
}
