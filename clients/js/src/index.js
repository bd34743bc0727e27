/**
 * Checks Latchkey's access tokens in memory, and knows within milliseconds when a session has ended.
 *
 * @module
 */

export { InvalidToken, LatchkeyError, Unavailable } from "./errors.js";
export { claimsOf, expressMiddleware } from "./express.js";
export { fastifyHook, fastifyPlugin } from "./fastify.js";
export { createVerifier, Verifier } from "./verifier.js";

/** @typedef {import("./claims.js").Claims} Claims */
/** @typedef {import("./settings.js").Options} Options */
/** @typedef {import("./guard.js").GuardOptions} GuardOptions */
