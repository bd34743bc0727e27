/**
 * Authorization by role, scope and authentication, for Express and Fastify. An authorizer runs after the middleware or the hook
 * that has verified the access token.
 */

import { LatchkeyError } from "./errors.js";
import { claimsOf, insufficientAuthentication, missingRole, missingScope } from "./guard.js";

/** @typedef {import("node:http").ServerResponse | import("./fastify.js").FastifyReply} Reply */
/** @typedef {import("./guard.js").Claims} Claims */
/** @typedef {import("./guard.js").Refusal} Refusal */
/** @typedef {(request: object, reply: Reply, next: (error?: any) => void) => void} Authorizer Express middleware and Fastify hook in one. */
/** @typedef {(claims: Claims) => Refusal | undefined} Decision A function that returns the refusal, or undefined to let the request pass. */

/**
 * The decision of each authorizer, for `webSocketUpgrade`: the handshake of a WebSocket has no reply, so it calls the decision instead
 * of the authorizer.
 *
 * @type {WeakMap<Authorizer, Decision>}
 */
const DECISIONS = new WeakMap();

/** A scope, or a value of `acr`: printable ASCII without spaces, double quotes and backslashes (`scope-token` in RFC 6749, section 3.3). */
const SCOPE_TOKEN = /^[!#-[\]-~]+$/;

/**
 * Answers 403 unless the account has one of the roles. Use it as Express middleware, or as a Fastify hook such as `onRequest`.
 *
 * @param {...string} roles
 * @returns {Authorizer}
 */
export function requireRole(...roles) {
  return authorizer((claims) => missingRole(claims, roles));
}

/**
 * Answers 403 with an `insufficient_scope` challenge unless the token has all of the scopes. Use it like {@link requireRole}.
 *
 * @param {...string} scopes
 * @returns {Authorizer}
 * @throws {LatchkeyError} for impossible scopes
 */
export function requireScope(...scopes) {
  if (scopes.some((scope) => typeof scope !== "string" || !SCOPE_TOKEN.test(scope))) {
    throw new LatchkeyError("scopes must be printable ASCII without spaces, double quotes and backslashes");
  }
  return authorizer((claims) => missingScope(claims, scopes));
}

/**
 * Answers 401 with an `insufficient_user_authentication` challenge (RFC 9470) unless the session's authentication has one of
 * these `acr` values. A higher level satisfies `aal1` and `aal2`, too. Use it like {@link requireRole}.
 *
 * @param {...string} values
 * @returns {Authorizer}
 */
export function requireAcr(...values) {
  return requireAuthentication({ acr: values });
}

/**
 * Answers 401 with an `insufficient_user_authentication` challenge (RFC 9470) unless the user authenticated at most this many
 * seconds ago. Use it like {@link requireRole}.
 *
 * @param {number} seconds
 * @returns {Authorizer}
 */
export function requireMaxAge(seconds) {
  return requireAuthentication({ maxAge: seconds });
}

/**
 * Requires what {@link requireAcr} and {@link requireMaxAge} require, in one challenge.
 *
 * @param {{ acr?: string | readonly string[], maxAge?: number }} required `maxAge` is in seconds
 * @returns {Authorizer}
 * @throws {LatchkeyError} if both are missing, or a value is not valid
 */
export function requireAuthentication({ acr, maxAge }) {
  const values = acr === undefined ? undefined : [acr].flat();
  if (values?.length === 0 || values?.some((value) => typeof value !== "string" || !SCOPE_TOKEN.test(value))) {
    throw new LatchkeyError("acr must be one or more values of printable ASCII without spaces, double quotes and backslashes");
  }
  if (maxAge !== undefined && !(Number.isSafeInteger(maxAge) && maxAge >= 0)) {
    throw new LatchkeyError("maxAge must be a whole number of seconds");
  }
  if (values === undefined && maxAge === undefined) throw new LatchkeyError("require acr, maxAge or both");
  return authorizer((claims) => insufficientAuthentication(claims, { acr: values, maxAge }, Date.now()));
}

/**
 * Returns the decision of each authorizer.
 *
 * @param {readonly Authorizer[]} authorizers
 * @returns {Decision[]}
 * @throws {LatchkeyError} for a function that is not an authorizer of this package
 */
export function decisionsOf(authorizers) {
  return authorizers.map((authorize) => {
    const decide = DECISIONS.get(authorize);
    if (!decide) throw new LatchkeyError("guards must come from requireRole, requireScope, requireAcr, requireMaxAge or requireAuthentication");
    return decide;
  });
}

/**
 * Makes the authorizer that sends the refusals of a decision.
 *
 * @param {Decision} decide
 * @returns {Authorizer}
 */
function authorizer(decide) {
  /** @type {Authorizer} */
  const authorize = (request, reply, next) => {
    let refusal;
    try {
      // throws if no middleware or hook has verified the token before
      refusal = decide(claimsOf(request));
    } catch (error) {
      next(error);
      return;
    }
    if (refusal === undefined) next();
    // only the reply of Fastify has `code`
    else if ("code" in reply) reply.code(refusal.status).headers(refusal.headers).send(refusal.body);
    else reply.writeHead(refusal.status, refusal.headers).end(refusal.body);
  };
  DECISIONS.set(authorize, decide);
  return authorize;
}
