/** Who calls, for the middlewares: claims, or the answer that refuses the request. */

import { InvalidToken, Unavailable } from "./errors.js";

/**
 * @typedef {object} GuardOptions
 * @property {boolean} [allowClients] Whether tokens that service clients got for themselves, without a user's session, are let
 *   in too. Not by default.
 */

/** @typedef {{ status: 401 | 503, headers: Record<string, string>, body: string }} Refusal */

/**
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("node:http").IncomingMessage} request
 * @param {GuardOptions} options
 * @returns {Promise<{ claims: Readonly<import("./claims.js").Claims> } | { refusal: Refusal }>}
 * @throws {Error} only what is no answer to a token
 */
export async function guard(verifier, request, options) {
  const token = bearerOf(request);
  if (token === undefined) return challenge("Sign in first.", "");
  try {
    const claims = await verifier.verify(token);
    if (claims.sid !== undefined || options.allowClients) return { claims };
    return challenge("The access token is not a user's.", ', error="invalid_token"');
  } catch (error) {
    if (error instanceof InvalidToken) {
      return challenge("The access token is not valid, or its session has ended.", ', error="invalid_token"');
    }
    if (error instanceof Unavailable) {
      return refuse(503, "Unavailable", "Whether the access token is valid can't be known now.", { "Retry-After": "1" });
    }
    throw error;
  }
}

/** @param {import("node:http").IncomingMessage} request */
function bearerOf({ headers, rawHeaders }) {
  // Node passes on the first of several
  const several = rawHeaders.filter((text, at) => at % 2 === 0 && text.toLowerCase() === "authorization").length > 1;
  return several ? undefined : /^bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1];
}

/** @type {(detail: string, error: string) => { refusal: Refusal }} */
function challenge(detail, error) {
  return refuse(401, "Unauthorized", detail, { "WWW-Authenticate": `Bearer realm="latchkey"${error}` });
}

/** @type {(status: 401 | 503, title: string, detail: string, headers: Record<string, string>) => { refusal: Refusal }} */
function refuse(status, title, detail, headers) {
  const type = { "Content-Type": "application/problem+json", "Cache-Control": "no-store" };
  return { refusal: { status, headers: { ...type, ...headers }, body: JSON.stringify({ title, status, detail }) } };
}
