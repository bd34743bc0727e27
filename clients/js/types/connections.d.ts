/**
 * Returns the registration that ends a request's open connection. A newer token, which the client sends over the WebSocket for
 * instance, can renew it.
 *
 * @param {object} request
 * @returns {Registration}
 * @throws {LatchkeyError} if no middleware of this package watches the request
 */
export function registrationOf(request: object): Registration;
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
export function closeOnEnd(verifier: import("./verifier.js").Verifier, claims: import("./guard.js").Claims, socket: WebSocketLike, request?: object): Registration;
/**
 * Returns the code with which a WebSocket is closed (RFC 6455, section 7.4): 1013 (try again later) for `feed_lost`, else 1008
 * (policy violation).
 *
 * @param {EndCause} cause
 */
export function closeCode(cause: EndCause): 1013 | 1008;
/**
 * Ends a response that is still being sent when its session ends. An event stream ends cleanly. Another body of unannounced
 * length is cut, so that nobody takes the body for complete. A body of announced length is sent to its end.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").Claims} claims
 * @param {object} request
 * @param {ServerResponse} response
 */
export function endResponseOnEnd(verifier: import("./verifier.js").Verifier, claims: import("./guard.js").Claims, request: object, response: ServerResponse): void;
export type EndCause = import("./end-registry.js").EndCause;
export type Registration = import("./end-registry.js").Registration;
export type ServerResponse = import("node:http").ServerResponse;
/**
 * The part of a WebSocket of the package `ws` that is used.
 */
export type WebSocketLike = {
    close: (code: number, reason: string) => void;
    terminate: () => void;
    once: (event: "close", listener: () => void) => unknown;
    removeAllListeners: (event: "message") => unknown;
};
