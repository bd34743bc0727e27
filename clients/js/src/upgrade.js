/** Accepts WebSockets of the package `ws` for requests with a valid access token. */

import { STATUS_CODES } from "node:http";

import { decisionsOf } from "./authorize.js";
import { closeOnEnd } from "./connections.js";
import { describeError } from "./errors.js";
import { authenticate, refusalOfError } from "./guard.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("node:stream").Duplex} Duplex */
/** @typedef {import("./guard.js").Claims} Claims */
/** @typedef {{ status: number, headers: Record<string, string>, body: string }} Response */

/**
 * @typedef {object} WebSocketServerLike The part of a `WebSocketServer` of the package `ws` that this module uses.
 * @property {(request: IncomingMessage) => boolean | Promise<boolean>} shouldHandle
 * @property {(request: IncomingMessage, socket: Duplex, head: Buffer, done: (socket: any, request: IncomingMessage) => void) => void} handleUpgrade
 * @property {(event: "connection", socket: any, request: IncomingMessage) => boolean} emit
 */

/** @typedef {import("./guard.js").GuardOptions & { guards?: readonly import("./authorize.js").Authorizer[] }} UpgradeOptions
 *   `guards` are authorizers such as `requireRole("admin")`. */

/** The code and the reason with which a WebSocket is closed after a fault (RFC 6455, section 7.4.1). @type {[number, string]} */
const INTERNAL_ERROR = [1011, "internal error"];

/**
 * A listener for the event `upgrade` of an HTTP server. Accepts the WebSocket of a request with a valid access
 * token, and closes the WebSocket when the session ends. {@link import("./guard.js").claimsOf} returns the claims of such a request.
 * Answers other requests with 401, 403 or 503 as the middleware does, and paths that `webSocketServer` does not handle with 404.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {WebSocketServerLike} webSocketServer created with `noServer: true`
 * @param {UpgradeOptions} [options]
 * @returns {(request: IncomingMessage, socket: Duplex, head: Buffer) => Promise<void>}
 * @throws {import("./errors.js").LatchkeyError} if `options.guards` contains a function that this package did not create
 */
export function webSocketUpgrade(verifier, webSocketServer, options = {}) {
  const decisions = decisionsOf(options.guards ?? []);
  /** @type {(request: IncomingMessage) => Promise<{ claims: Claims } | { refusal: Response }>} */
  const authorize = async (request) => {
    const isHandled = await webSocketServer.shouldHandle(request);
    if (!isHandled) return { refusal: { status: 404, headers: {}, body: "" } };
    const outcome = await authenticate(verifier, request, options);
    if ("refusal" in outcome) return outcome;
    for (const decide of decisions) {
      const refusal = decide(outcome.claims);
      if (refusal) return { refusal };
    }
    return outcome;
  };
  const closesOnEnd = options.closeOnEnd ?? true;
  return async (request, socket, head) => {
    // without a listener, an error of the socket during the authorization would end the process
    const onError = () => socket.destroy();
    socket.on("error", onError);
    try {
      const outcome = await authorize(request);
      if ("refusal" in outcome) {
        refuse(socket, outcome.refusal);
        return;
      }
      // from here on, `ws` handles the socket's errors
      socket.removeListener("error", onError);
      webSocketServer.handleUpgrade(request, socket, head, (accepted) => {
        // The response 101 was sent, so an error must not reach the outer `catch`, which answers with an HTTP response.
        try {
          Object.assign(request, { auth: outcome.claims });
          // a WebSocket that could not be registered is being closed
          if (closesOnEnd && !watch(verifier, outcome.claims, accepted, request)) return;
          webSocketServer.emit("connection", accepted, request);
        } catch (error) {
          process.emitWarning(`a WebSocket failed after its handshake and is closed with 1011: ${describeError(error)}`, "LatchkeyWarning");
          accepted.close(...INTERNAL_ERROR);
        }
      });
    } catch (error) {
      process.emitWarning(`a WebSocket handshake failed and is answered with 500: ${describeError(error)}`, "LatchkeyWarning");
      refuse(socket, { status: 500, headers: {}, body: "" });
    }
  };
}

/**
 * Registers the WebSocket, so that it is closed when its session ends. Closes it at once if the registration fails.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {Claims} claims
 * @param {import("./connections.js").WebSocketLike} socket
 * @param {IncomingMessage} request
 * @returns {boolean} whether the WebSocket is registered
 * @throws {unknown} any error that is not one of the verifier
 */
export function watch(verifier, claims, socket, request) {
  try {
    closeOnEnd(verifier, claims, socket, request);
    return true;
  } catch (error) {
    // an error of the verifier, such as too many registrations, is expected; any other error is a fault
    if (!refusalOfError(error)) {
      socket.close(...INTERNAL_ERROR);
      throw error;
    }
    socket.close(1013, "unavailable"); // try again later (RFC 6455, section 7.4.1)
    return false;
  }
}

/**
 * Writes a response to the socket of a request that has not become a WebSocket, and closes the socket.
 *
 * @param {Duplex} socket
 * @param {Response} refusal
 */
function refuse(socket, { status, headers, body }) {
  const allHeaders = { ...headers, "Content-Length": Buffer.byteLength(body), Connection: "close" };
  const lines = Object.entries(allHeaders).map(([name, value]) => `${name}: ${value}\r\n`);
  const response = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("")}\r\n${body}`;
  socket.end(response, () => socket.destroy());
}
