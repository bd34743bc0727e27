/** HTTP client for Latchkey: metadata, JWK Set, introspection and the revocation feed. */

import { ProtocolError } from "./errors.js";
import { parseJwks } from "./jwks.js";
import { parse } from "./strict-json.js";

/** Longer metadata, JWK Sets and introspection responses are refused. */
const MAX_DOCUMENT_BYTES = 256 * 1024;

/** @typedef {{ keysUrl: string, introspectionUrl: string, revocationsUrl: string }} Endpoints From the metadata (RFC 8414). */

/** Sends requests to one issuer. */
export class IssuerClient {
  #settings;
  #authorization;
  /** @type {Endpoints | undefined} */
  #endpoints;
  /** When the endpoints were fetched, in milliseconds of `performance.now()`. */
  #endpointsFetchedAt = 0;
  /** Requests in flight. @type {Set<AbortController>} */
  #inFlight = new Set();

  /** @param {Readonly<import("./settings.js").Settings>} settings */
  constructor(settings) {
    this.#settings = settings;
    // RFC 6749, section 2.3.1: id and secret are form-encoded before they are joined.
    const credentials = `${formEncode(settings.clientId)}:${formEncode(settings.clientSecret)}`;
    this.#authorization = `Basic ${Buffer.from(credentials).toString("base64")}`;
  }

  /** Aborts the requests in flight, except the feed's, which has a signal of its own. */
  close() {
    for (const controller of this.#inFlight) controller.abort();
  }

  /** Fetches the published keys. */
  async keys() {
    const { requestTimeoutMs } = this.#settings;
    const { keysUrl } = await this.#metadata(requestTimeoutMs);
    return parseJwks(await this.#fetchDocument(keysUrl, {}, requestTimeoutMs));
  }

  /**
   * Asks Latchkey whether the token is active (RFC 7662).
   *
   * @param {string} token
   * @returns {Promise<boolean>}
   * @throws {Error} if there is no valid response in time
   */
  async introspect(token) {
    const timeoutMs = this.#settings.introspectionTimeoutMs;
    const { introspectionUrl } = await this.#metadata(timeoutMs);
    const body = new URLSearchParams({ token, token_type_hint: "access_token" });
    const request = { method: "POST", headers: { Authorization: this.#authorization }, body };
    const document = /** @type {{ active?: unknown } | null} */ (await this.#fetchDocument(introspectionUrl, request, timeoutMs));
    if (typeof document?.active !== "boolean") throw new ProtocolError("the response is not an introspection response");
    return document.active;
  }

  /**
   * Opens the feed. The first events are those after `lastEventId`, or a snapshot if it is undefined. The caller enforces read
   * timeouts.
   *
   * @param {string | undefined} lastEventId
   * @param {AbortSignal} signal The signal that closes the feed.
   * @returns {Promise<ReadableStreamDefaultReader<Uint8Array>>}
   */
  async openFeed(lastEventId, signal) {
    const { revocationsUrl } = await this.#metadata(this.#settings.requestTimeoutMs);
    // The metadata request does not follow the signal.
    signal.throwIfAborted();
    /** @type {Record<string, string>} */
    const headers = { Authorization: this.#authorization, Accept: "text/event-stream", "Cache-Control": "no-store" };
    if (lastEventId !== undefined) headers["Last-Event-ID"] = lastEventId;
    const response = await this.#settings.fetch(revocationsUrl, { headers, signal, redirect: "error" });
    if (response.status !== 200 || !response.body) throw this.#unexpectedStatus(revocationsUrl, response.status);
    if (!/^text\/event-stream\s*(;|$)/i.test(response.headers.get("Content-Type") ?? "")) {
      throw new ProtocolError("the feed is not an event stream");
    }
    return response.body.getReader();
  }

  /**
   * The endpoints in the metadata, which are refetched after `keysMaxAgeMs`. If that fails, the old endpoints are returned.
   *
   * @param {number} timeoutMs
   * @returns {Promise<Endpoints>}
   */
  async #metadata(timeoutMs) {
    const age = performance.now() - this.#endpointsFetchedAt;
    if (this.#endpoints && age <= this.#settings.keysMaxAgeMs) return this.#endpoints;
    try {
      const url = `${this.#settings.issuer}/.well-known/openid-configuration`;
      this.#endpoints = this.#parseMetadata(await this.#fetchDocument(url, {}, timeoutMs));
      this.#endpointsFetchedAt = performance.now();
    } catch (error) {
      if (!this.#endpoints) throw error;
    }
    return this.#endpoints;
  }

  /** @param {unknown} document @returns {Endpoints} */
  #parseMetadata(document) {
    const members = /** @type {Record<string, unknown> | null} */ (document);
    if (members?.issuer !== this.#settings.issuer) {
      throw new ProtocolError("the metadata belongs to another issuer (RFC 8414, section 3.3)");
    }
    // The client secret is sent to these URLs: never without TLS if the issuer has TLS.
    const validUrl = this.#settings.issuer.startsWith("https:") ? /^https:\/\/./ : /^https?:\/\/./;
    /** @param {string} name */
    const urlMember = (name) => {
      const url = members[name];
      if (typeof url !== "string" || !validUrl.test(url)) throw new ProtocolError(`the metadata has no valid ${name}`);
      return url;
    };
    return {
      keysUrl: urlMember("jwks_uri"),
      introspectionUrl: urlMember("introspection_endpoint"),
      revocationsUrl: urlMember("latchkey_revocations_endpoint"),
    };
  }

  /**
   * Fetches a JSON document.
   *
   * @param {string} url
   * @param {RequestInit} request
   * @param {number} timeoutMs
   * @returns {Promise<unknown>}
   */
  async #fetchDocument(url, request, timeoutMs) {
    const controller = new AbortController();
    this.#inFlight.add(controller);
    const timer = setTimeout(() => controller.abort(new ProtocolError("no response in time")), timeoutMs);
    timer.unref();
    try {
      const headers = { Accept: "application/json", ...request.headers };
      const response = await this.#settings.fetch(url, { ...request, headers, redirect: "error", signal: controller.signal });
      if (response.status !== 200 || !response.body) throw this.#unexpectedStatus(url, response.status);
      return parseDocument(await readBody(response.body, url), url);
    } finally {
      clearTimeout(timer);
      this.#inFlight.delete(controller);
      // Releases a body that was not read.
      controller.abort();
    }
  }

  /**
   * @param {string} url
   * @param {number} status
   */
  #unexpectedStatus(url, status) {
    const hint =
      status === 401 ? `: the service client "${this.#settings.clientId}" is unknown or disabled, or its secret is wrong` : "";
    return new ProtocolError(`${new URL(url).pathname} answered ${status}${hint}`);
  }
}

/**
 * Reads a body of at most `MAX_DOCUMENT_BYTES` from this URL.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @param {string} url
 */
async function readBody(body, url) {
  const reader = body.getReader();
  /** @type {Uint8Array[]} */
  const chunks = [];
  let size = 0;
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.length;
    if (size > MAX_DOCUMENT_BYTES) throw new ProtocolError(`${new URL(url).pathname} answered more than ${MAX_DOCUMENT_BYTES} bytes`);
    chunks.push(next.value);
  }
  return Buffer.concat(chunks);
}

/**
 * Parses the body that this URL answered with.
 *
 * @param {Uint8Array} body
 * @param {string} url
 * @returns {unknown}
 * @throws {ProtocolError} for invalid JSON, invalid UTF-8 and duplicate members
 */
function parseDocument(body, url) {
  try {
    return parse(body);
  } catch {
    throw new ProtocolError(`${new URL(url).pathname} did not answer with valid JSON`);
  }
}

/** @param {string} text */
function formEncode(text) {
  const encodedPair = new URLSearchParams([["", text]]).toString();
  // The pair is "=" and the text: its name is empty.
  return encodedPair.slice(1);
}
