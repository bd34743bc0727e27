/** Closes WebSockets and streaming responses when the session of their request ends. */

import { LatchkeyError } from "./errors.js";

/** @typedef {import("./end-registry.js").EndCause} EndCause */
/** @typedef {import("./end-registry.js").Registration} Registration */
/** @typedef {import("node:http").ServerResponse} ServerResponse */

/**
 * @typedef {object} WebSocketLike The part of a WebSocket of the package `ws` that is used.
 * @property {(code: number, reason: string) => void} close
 * @property {() => void} terminate
 * @property {(event: "close", listener: () => void) => unknown} once
 * @property {(event: "message") => unknown} removeAllListeners
 */

/** How long the peer may take to answer the closing handshake before the connection is cut. */
const CLOSING_TIMEOUT_MS = 1_000;

/** The registrations by their requests. @type {WeakMap<object, Registration>} */
const REGISTRATIONS = new WeakMap();

/**
 * Returns the registration that ends a request's open connection. A newer token, which the client sends over the WebSocket for
 * instance, can renew it.
 *
 * @param {object} request
 * @returns {Registration}
 * @throws {LatchkeyError} if no middleware of this package watches the request
 */
export function registrationOf(request) {
  // A Fastify request has Node's request, with which the middleware registered, as `raw`.
  const { raw } = /** @type {{ raw?: object }} */ (request);
  const registration = REGISTRATIONS.get(request) ?? (raw && REGISTRATIONS.get(raw));
  if (!registration) throw new LatchkeyError("the request has no registration: closeOnEnd is off, or no middleware ran before");
  return registration;
}

/**
 * Closes a WebSocket when its session ends: with the code 1008, or 1013 for `feed_lost`, and the cause as its reason. Messages
 * that arrive afterwards are not delivered.
 *
 * The middlewares of this package do this by themselves. Use it for WebSockets that another library accepted.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").Claims} claims
 * @param {WebSocketLike} socket
 * @param {object} [request] the request of the WebSocket, with which {@link registrationOf} finds the registration
 * @returns {Registration}
 * @throws {import("./errors.js").Unavailable} if there are `maxRegistrations` already
 */
export function closeOnEnd(verifier, claims, socket, request) {
  const registration = verifier.onEnd(claims, (cause) => {
    socket.close(closeCode(cause), cause);
    socket.removeAllListeners("message");
    const timer = setTimeout(() => socket.terminate(), CLOSING_TIMEOUT_MS).unref();
    socket.once("close", () => clearTimeout(timer));
  });
  socket.once("close", () => registration.close());
  if (request) REGISTRATIONS.set(request, registration);
  return registration;
}

/**
 * Returns the code with which a WebSocket is closed (RFC 6455, section 7.4): 1013 (try again later) for `feed_lost`, else 1008
 * (policy violation).
 *
 * @param {EndCause} cause
 */
export function closeCode(cause) {
  return cause === "feed_lost" ? 1013 : 1008;
}

/**
 * Ends a response that is still being sent when its session ends. An event stream ends cleanly. Another body of unannounced
 * length is cut, so that nobody takes the body for complete. A body of announced length is sent to its end.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").Claims} claims
 * @param {object} request
 * @param {ServerResponse} response
 */
export function endResponseOnEnd(verifier, claims, request, response) {
  const registration = verifier.onEnd(claims, () => endResponse(response));
  response.once("close", () => registration.close());
  REGISTRATIONS.set(request, registration);
}

/** @param {ServerResponse} response */
function endResponse(response) {
  if (response.writableEnded) return;
  if (!response.headersSent) {
    // A response that the app sends as a whole is let through. Only an app that streams calls `write`. Its first call sends the headers,
    // which tell how to end the response.
    const write = response.write;
    response.write = /** @type {typeof response.write} */ (
      (/** @type {Parameters<typeof write>} */ ...parameters) => {
        const accepted = write.apply(response, parameters);
        endResponse(response);
        return accepted;
      }
    );
    return;
  }
  if (!isStreaming(response)) return;
  if (!/^text\/event-stream\s*(;|$)/i.test(String(response.getHeader("Content-Type")))) {
    response.destroy();
    return;
  }
  // The app may still write. Without this listener the error would end the process.
  response.on("error", () => {});
  response.end();
}

/** @param {ServerResponse} response */
function isStreaming(response) {
  if (response.chunkedEncoding) return true;
  // HTTP/1.0 and HTTP/2 have no chunked encoding.
  return response.req?.httpVersion !== "1.1" && !response.hasHeader("Content-Length");
}
