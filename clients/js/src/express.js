/** Middleware for Express, Connect and other frameworks with `(request, response, next)`. */

import { endResponseOnEnd } from "./connections.js";
import { authenticate, refusalOfError } from "./guard.js";

/**
 * Creates a middleware that lets requests with a valid access token pass, with the claims in `request.auth`. It answers other
 * requests with 401 and a challenge (RFC 6750, section 3), or with 503 if the token cannot be verified now. It ends streaming
 * responses when the session ends, unless `closeOnEnd` is false.
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
        refuse(response, outcome.refusal);
        return;
      }
      if (options.closeOnEnd ?? true) endResponseOnEnd(verifier, outcome.claims, request, response);
      Object.assign(request, { auth: outcome.claims });
    } catch (error) {
      // undefined for an error that says nothing about the token
      const refusal = refusalOfError(error);
      if (refusal) refuse(response, refusal);
      else next(error);
      return;
    }
    next(); // outside of `try`: an error of a later handler is not a refusal
  };
}

/**
 * Answers with a refusal.
 *
 * @param {import("node:http").ServerResponse} response
 * @param {import("./guard.js").Refusal} refusal
 */
function refuse(response, { status, headers, body }) {
  response.writeHead(status, headers).end(body);
}
