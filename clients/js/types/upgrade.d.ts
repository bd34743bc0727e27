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
export function webSocketUpgrade(verifier: import("./verifier.js").Verifier, webSocketServer: WebSocketServerLike, options?: UpgradeOptions): (request: IncomingMessage, socket: Duplex, head: Buffer) => Promise<void>;
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
export function watch(verifier: import("./verifier.js").Verifier, claims: Claims, socket: import("./connections.js").WebSocketLike, request: IncomingMessage): boolean;
export type IncomingMessage = import("node:http").IncomingMessage;
export type Duplex = import("node:stream").Duplex;
export type Claims = import("./guard.js").Claims;
export type Response = {
    status: number;
    headers: Record<string, string>;
    body: string;
};
/**
 * The part of a `WebSocketServer` of the package `ws` that this module uses.
 */
export type WebSocketServerLike = {
    shouldHandle: (request: IncomingMessage) => boolean | Promise<boolean>;
    handleUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer, done: (socket: any, request: IncomingMessage) => void) => void;
    emit: (event: "connection", socket: any, request: IncomingMessage) => boolean;
};
/**
 * `guards` are authorizers such as `requireRole("admin")`.
 */
export type UpgradeOptions = import("./guard.js").GuardOptions & {
    guards?: readonly import("./authorize.js").Authorizer[];
};
