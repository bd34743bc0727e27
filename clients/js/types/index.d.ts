export type Claims = import("./claims.js").Claims;
export type Options = import("./settings.js").Options;
export type GuardOptions = import("./guard.js").GuardOptions;
export { InvalidToken, LatchkeyError, Unavailable } from "./errors.js";
export { claimsOf, expressMiddleware } from "./express.js";
export { fastifyHook, fastifyPlugin } from "./fastify.js";
export { createVerifier, Verifier } from "./verifier.js";
