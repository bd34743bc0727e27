/** @typedef {Readonly<import("./claims.js").Claims>} Claims */
/**
 * Lets requests with a good access token pass, with `request.auth` set to its claims; answers others with 401 and a challenge
 * (RFC 6750, section 3), or 503 where it can't be known.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse,
 *   next: (error?: unknown) => void) => Promise<void>}
 */
export function expressMiddleware(verifier: import("./verifier.js").Verifier, options?: import("./guard.js").GuardOptions): (request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse, next: (error?: unknown) => void) => Promise<void>;
/**
 * The claims of a request that the middleware or the hook let pass.
 *
 * @param {object} request
 * @returns {Claims}
 * @throws {LatchkeyError} for a request that went past neither
 */
export function claimsOf(request: object): Claims;
export type Claims = Readonly<import("./claims.js").Claims>;
