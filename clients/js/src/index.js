/**
 * Verifies Latchkey's access tokens locally, and refuses a token within milliseconds after its session ended.
 *
 * @module
 */

export { requireAcr, requireAuthentication, requireMaxAge, requireRole, requireScope } from "./authorize.js";
export { closeOnEnd, registrationOf } from "./connections.js";
export { InvalidToken, LatchkeyError, RenewError, Unavailable } from "./errors.js";
export { expressMiddleware } from "./express.js";
export { fastifyHook, fastifyPlugin } from "./fastify.js";
export { claimsOf } from "./guard.js";
export { webSocketUpgrade } from "./upgrade.js";
export { createVerifier, Verifier } from "./verifier.js";

// The types that appear in the functions above, so that a caller can import them from the package itself.
/** @typedef {import("./claims.js").Claims} Claims */
/** @typedef {import("./end-registry.js").EndCause} EndCause */
/** @typedef {import("./end-registry.js").Registration} Registration */
/** @typedef {import("./errors.js").Reason} Reason */
/** @typedef {import("./settings.js").Options} Options */
/** @typedef {import("./guard.js").GuardOptions} GuardOptions */
