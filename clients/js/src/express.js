/** For Express, Connect, and whatever else takes `(request, response, next)`. */

import { LatchkeyError } from "./errors.js";
import { guard } from "./guard.js";

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
export function expressMiddleware(verifier, options = {}) {
  return async (request, response, next) => {
    try {
      const outcome = await guard(verifier, request, options);
      if ("claims" in outcome) {
        Object.assign(request, { auth: outcome.claims });
      } else {
        const { status, headers, body } = outcome.refusal;
        response.writeHead(status, headers).end(body);
        return;
      }
    } catch (error) {
      next(error);
      return;
    }
    next();
  };
}

/**
 * The claims of a request that the middleware or the hook let pass.
 *
 * @param {object} request
 * @returns {Claims}
 * @throws {LatchkeyError} for a request that went past neither
 */
export function claimsOf(request) {
  const { auth } = /** @type {{ auth?: Claims | null }} */ (request);
  if (!auth) throw new LatchkeyError("this request went past neither the middleware nor the hook");
  return auth;
}
