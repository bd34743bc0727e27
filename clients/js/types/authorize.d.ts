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
 * @throws {LatchkeyError} for impossible scopes
 */
export function requireScope(...scopes: string[]): Authorizer;
/**
 * Answers 401 with an `insufficient_user_authentication` challenge (RFC 9470) unless the session's authentication has one of
 * these `acr` values. A higher level satisfies `aal1` and `aal2`, too. Use it like {@link requireRole}.
 *
 * @param {...string} values
 * @returns {Authorizer}
 */
export function requireAcr(...values: string[]): Authorizer;
/**
 * Answers 401 with an `insufficient_user_authentication` challenge (RFC 9470) unless the user authenticated at most this many
 * seconds ago. Use it like {@link requireRole}.
 *
 * @param {number} seconds
 * @returns {Authorizer}
 */
export function requireMaxAge(seconds: number): Authorizer;
/**
 * Requires what {@link requireAcr} and {@link requireMaxAge} require, in one challenge.
 *
 * @param {{ acr?: string | readonly string[], maxAge?: number }} required `maxAge` is in seconds
 * @returns {Authorizer}
 * @throws {LatchkeyError} if both are missing, or a value is not valid
 */
export function requireAuthentication({ acr, maxAge }: {
    acr?: string | readonly string[];
    maxAge?: number;
}): Authorizer;
/**
 * Returns the decision of each authorizer.
 *
 * @param {readonly Authorizer[]} authorizers
 * @returns {Decision[]}
 * @throws {LatchkeyError} for a function that is not an authorizer of this package
 */
export function decisionsOf(authorizers: readonly Authorizer[]): Decision[];
export type Reply = import("node:http").ServerResponse | import("./fastify.js").FastifyReply;
export type Claims = import("./guard.js").Claims;
export type Refusal = import("./guard.js").Refusal;
/**
 * Express middleware and Fastify hook in one.
 */
export type Authorizer = (request: object, reply: Reply, next: (error?: any) => void) => void;
/**
 * A function that returns the refusal, or undefined to let the request pass.
 */
export type Decision = (claims: Claims) => Refusal | undefined;
