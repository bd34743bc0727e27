/** Middleware for Express, Connect and other frameworks with `(request, response, next)`. */

import { authenticate } from "./guard.js";

/**
 * Lets requests with a valid access token pass and sets `request.auth` to the claims. Answers others with 401 and a challenge
 * (RFC 6750, section 3), or with 503 if the token cannot be verified now.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse,
 *   next: (error?: unknown) => void) => Promise<void>}
 */
export function expressMiddleware(verifier, options = {}) {
  return async (request, response, next) => {
    try {
      const outcome = await authenticate(verifier, request, options);
      if ("refusal" in outcome) {
        const { status, headers, body } = outcome.refusal;
        response.writeHead(status, headers).end(body);
        return;
      }
      Object.assign(request, { auth: outcome.claims });
    } catch (error) {
      next(error);
      return;
    }
    next();
  };
}
