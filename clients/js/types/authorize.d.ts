/** @typedef {import("node:http").ServerResponse | import("./fastify.js").FastifyReply} Reply */
/** @typedef {(request: object, reply: Reply, next: (error?: any) => void) => void} Authorizer Express middleware and Fastify hook in one. */
/**
 * Answers 403 unless the account has one of the roles. Use it as Express middleware, or as a Fastify hook such as `onRequest`.
 *
 * @param {...string} roles
 * @returns {Authorizer}
 */
export function requireRole(...roles: string[]): Authorizer;
/**
 * Answers 403 with an `insufficient_scope` challenge unless the token has all of the scopes. Use it like {@link requireRole}.
 *
 * @param {...string} scopes
 * @returns {Authorizer}
 */
export function requireScope(...scopes: string[]): Authorizer;
export type Reply = import("node:http").ServerResponse | import("./fastify.js").FastifyReply;
/**
 * Express middleware and Fastify hook in one.
 */
export type Authorizer = (request: object, reply: Reply, next: (error?: any) => void) => void;
