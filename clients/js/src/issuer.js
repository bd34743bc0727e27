/** Latchkey over HTTP: metadata, keys, introspection, and the connection that the feed comes over. */

import { Malformed } from "./errors.js";
import { readKeys } from "./jwks.js";
import { parse } from "./strict-json.js";

/** Metadata, JWKS and introspection answers that are longer are not read. */
const MAX_DOCUMENT_BYTES = 256 * 1024;

/** @typedef {{ keys: string, introspection: string, revocations: string }} Endpoints Where things are (RFC 8414). */

/** The one issuer whose tokens count here. */
export class Issuer {
  #settings;
  #authorization;
  /** @type {Endpoints | undefined} */
  #endpoints;
  #fetched = 0;
  /** Requests that are under way. @type {Set<AbortController>} */
  #running = new Set();

  /** @param {Readonly<import("./settings.js").Settings>} settings */
  constructor(settings) {
    this.#settings = settings;
    // RFC 6749, section 2.3.1: both are form-encoded first
    const pair = `${formEncode(settings.clientId)}:${formEncode(settings.clientSecret)}`;
    this.#authorization = `Basic ${Buffer.from(pair).toString("base64")}`;
  }

  /** Gives up requests that are under way; the feed has a signal of its own. */
  close() {
    for (const controller of this.#running) controller.abort();
  }

  /** The keys as they are published now. */
  async keys() {
    const { keys } = await this.#metadata(this.#settings.requestTimeoutMs);
    return readKeys(await this.#document(keys, {}, this.#settings.requestTimeoutMs));
  }

  /**
   * What Latchkey itself says of the token (RFC 7662).
   *
   * @param {string} token
   * @returns {Promise<boolean>}
   * @throws {Error} where it says nothing in time
   */
  async isActive(token) {
    const timeout = this.#settings.introspectionTimeoutMs;
    const { introspection } = await this.#metadata(timeout);
    const body = new URLSearchParams({ token, token_type_hint: "access_token" });
    const request = { method: "POST", headers: { Authorization: this.#authorization }, body };
    const answer = /** @type {{ active?: unknown } | null} */ (await this.#document(introspection, request, timeout));
    if (typeof answer?.active !== "boolean") throw new Malformed("this is no introspection answer");
    return answer.active;
  }

  /**
   * The bytes of the feed, from after an event on, or from a snapshot on. Whoever reads them minds the time.
   *
   * @param {string | undefined} lastEventId
   * @param {AbortSignal} signal ends it
   * @returns {Promise<ReadableStreamDefaultReader<Uint8Array>>}
   */
  async feed(lastEventId, signal) {
    const { revocations } = await this.#metadata(this.#settings.requestTimeoutMs);
    signal.throwIfAborted();
    /** @type {Record<string, string>} */
    const headers = { Authorization: this.#authorization, Accept: "text/event-stream", "Cache-Control": "no-store" };
    if (lastEventId !== undefined) headers["Last-Event-ID"] = lastEventId;
    const response = await this.#settings.fetch(revocations, { headers, signal, redirect: "error" });
    if (response.status !== 200 || !response.body) throw new Malformed(`the feed answers ${response.status}`);
    if (!response.headers.get("Content-Type")?.toLowerCase().startsWith("text/event-stream")) {
      throw new Malformed("the feed is no stream of events");
    }
    return response.body.getReader();
  }

  /**
   * The metadata, fetched when it is old; an old one stays while no other can be had.
   *
   * @param {number} timeoutMs
   * @returns {Promise<Endpoints>}
   */
  async #metadata(timeoutMs) {
    const age = performance.now() - this.#fetched;
    if (this.#endpoints && age <= this.#settings.keysMaxAgeMs) return this.#endpoints;
    try {
      const url = `${this.#settings.issuer}/.well-known/openid-configuration`;
      this.#endpoints = this.#read(await this.#document(url, {}, timeoutMs));
      this.#fetched = performance.now();
    } catch (error) {
      if (!this.#endpoints) throw error;
    }
    return this.#endpoints;
  }

  /** @param {unknown} document @returns {Endpoints} */
  #read(document) {
    const members = /** @type {Record<string, unknown> | null} */ (document);
    if (members?.issuer !== this.#settings.issuer) {
      throw new Malformed("the metadata is another issuer's (RFC 8414, section 3.3)");
    }
    /** @param {string} name */
    const url = (name) => {
      const text = members[name];
      // the secret goes to these: never over a plain connection where the issuer has TLS
      const schemes = this.#settings.issuer.startsWith("https:") ? /^https:\/\/./ : /^https?:\/\/./;
      if (typeof text !== "string" || !schemes.test(text)) throw new Malformed(`the metadata has no usable ${name}`);
      return text;
    };
    return {
      keys: url("jwks_uri"),
      introspection: url("introspection_endpoint"),
      revocations: url("latchkey_revocations_endpoint"),
    };
  }

  /**
   * @param {string} url
   * @param {RequestInit} request
   * @param {number} timeoutMs
   * @returns {Promise<unknown>}
   */
  async #document(url, request, timeoutMs) {
    const controller = new AbortController();
    this.#running.add(controller);
    const timer = setTimeout(() => controller.abort(new Malformed("no answer in time")), timeoutMs);
    timer.unref();
    try {
      const headers = { Accept: "application/json", ...request.headers };
      const response = await this.#settings.fetch(url, { ...request, headers, redirect: "error", signal: controller.signal });
      if (response.status !== 200 || !response.body) throw new Malformed(`${new URL(url).pathname} answers ${response.status}`);
      return parse(await bodyOf(response.body, url));
    } catch (error) {
      throw error instanceof SyntaxError ? new Malformed(`${new URL(url).pathname} doesn't answer JSON`) : error;
    } finally {
      clearTimeout(timer);
      this.#running.delete(controller);
      // lets go of what was not read
      controller.abort();
    }
  }
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @param {string} url
 */
async function bodyOf(body, url) {
  const [reader, chunks] = [body.getReader(), /** @type {Uint8Array[]} */ ([])];
  let size = 0;
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.length;
    if (size > MAX_DOCUMENT_BYTES) throw new Malformed(`${new URL(url).pathname} answers too much`);
    chunks.push(next.value);
  }
  return Buffer.concat(chunks);
}

/** @param {string} text */
function formEncode(text) {
  return new URLSearchParams([["", text]]).toString().slice(1);
}
