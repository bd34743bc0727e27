/** Authorization by role and scope, for Express and Fastify. Runs after the middleware or the hook. */

import { claimsOf, missingRole, missingScope } from "./guard.js";

/** @typedef {import("node:http").ServerResponse | import("./fastify.js").FastifyReply} Reply */
/** @typedef {(request: object, reply: Reply, next: (error?: any) => void) => void} Authorizer Express middleware and Fastify hook in one. */

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
 */
export function requireScope(...scopes) {
  return authorizer((claims) => missingScope(claims, scopes));
}

/**
 * @param {(claims: import("./guard.js").Claims) => import("./guard.js").Refusal | undefined} decide
 * @returns {Authorizer}
 */
function authorizer(decide) {
  return (request, reply, next) => {
    let refusal;
    try {
      refusal = decide(claimsOf(request));
    } catch (error) {
      next(error);
      return;
    }
    if (refusal === undefined) next();
    else if ("code" in reply) reply.code(refusal.status).headers(refusal.headers).send(refusal.body);
    else reply.writeHead(refusal.status, refusal.headers).end(refusal.body);
  };
}
