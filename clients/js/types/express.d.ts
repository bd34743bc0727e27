/**
 * Creates a middleware that lets requests with a valid access token pass, with the claims in `request.auth`. It answers other
 * requests with 401 and a challenge (RFC 6750, section 3), or with 503 if the token cannot be verified now. It ends streaming
 * responses when the session ends, unless `closeOnEnd` is false.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse,
 *   next: (error?: unknown) => void) => Promise<void>}
 */
export function expressMiddleware(verifier: import("./verifier.js").Verifier, options?: import("./guard.js").GuardOptions): (request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse, next: (error?: unknown) => void) => Promise<void>;
