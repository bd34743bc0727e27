/**
 * Verifies Latchkey's access tokens locally, and refuses a token within milliseconds after its session ended.
 *
 * @module
 */

export { requireRole, requireScope } from "./authorize.js";
export { InvalidToken, LatchkeyError, Unavailable } from "./errors.js";
export { expressMiddleware } from "./express.js";
export { fastifyHook, fastifyPlugin } from "./fastify.js";
export { claimsOf } from "./guard.js";
export { createVerifier, Verifier } from "./verifier.js";

/** @typedef {import("./claims.js").Claims} Claims */
/** @typedef {import("./errors.js").Reason} Reason */
/** @typedef {import("./settings.js").Options} Options */
/** @typedef {import("./guard.js").GuardOptions} GuardOptions */
