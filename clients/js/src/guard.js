/** Authenticates and authorizes requests, for the middlewares: the result is claims, or the response that refuses the request. */

import { InvalidToken, LatchkeyError, Unavailable } from "./errors.js";

/** @typedef {Readonly<import("./claims.js").Claims>} Claims */

/**
 * @typedef {object} GuardOptions
 * @property {boolean} [allowClients] Whether tokens that service clients obtained for themselves, without a user's session, are
 *   accepted too. False by default.
 */

/** @typedef {{ status: 401 | 403 | 503, headers: Record<string, string>, body: string }} Refusal A complete response. */

const INVALID_TOKEN = ["invalid_token", "The access token is not valid, or its session has ended."];

/**
 * Authenticates a request by its access token.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("node:http").IncomingMessage} request
 * @param {GuardOptions} options
 * @returns {Promise<{ claims: Claims } | { refusal: Refusal }>}
 */
export async function authenticate(verifier, request, options) {
  const [token, ...others] = bearerTokens(request);
  if (others.length > 0) return unauthorized(INVALID_TOKEN);
  if (token === undefined) return unauthorized(["authentication_required", "Send an access token."]);
  try {
    const claims = await verifier.verify(token);
    return claims.sid !== undefined || options.allowClients ? { claims } : unauthorized(INVALID_TOKEN);
  } catch (error) {
    if (error instanceof InvalidToken) return unauthorized(INVALID_TOKEN);
    if (error instanceof Unavailable) {
      const detail = "The access token cannot be verified at the moment. Try again.";
      return refuse(503, "Not available at the moment", "unavailable", detail, { "Retry-After": "1" });
    }
    throw error;
  }
}

/**
 * The refusal of a request whose claims have none of these roles.
 *
 * @param {Claims} claims
 * @param {readonly string[]} roles
 * @returns {Refusal | undefined}
 */
export function missingRole(claims, roles) {
  if (claims.roles.some((role) => roles.includes(role))) return undefined;
  return refuse(403, "Not allowed", "insufficient_role", "The account lacks the required role.", {}).refusal;
}

/**
 * The refusal of a request whose claims lack one of these scopes (RFC 6750, section 3.1).
 *
 * @param {Claims} claims
 * @param {readonly string[]} scopes
 * @returns {Refusal | undefined}
 */
export function missingScope(claims, scopes) {
  if (scopes.every((scope) => claims.scope.includes(scope))) return undefined;
  const challenge = `Bearer realm="latchkey", error="insufficient_scope", scope="${scopes.join(" ")}"`;
  const detail = "The access token lacks a required scope.";
  return refuse(403, "Not allowed", "insufficient_scope", detail, { "WWW-Authenticate": challenge }).refusal;
}

/**
 * The claims of a request that the middleware or the hook has authenticated.
 *
 * @param {object} request
 * @returns {Claims}
 * @throws {LatchkeyError} if neither ran before
 */
export function claimsOf(request) {
  const { auth } = /** @type {{ auth?: Claims | null }} */ (request);
  if (!auth) throw new LatchkeyError("the request is not authenticated: register the middleware or the hook before this handler");
  return auth;
}

/**
 * The bearer token of each Authorization header. Node's `headers` has the first header only.
 *
 * @param {import("node:http").IncomingMessage} request
 */
function bearerTokens({ rawHeaders }) {
  const values = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === "authorization");
  const tokens = values.map((value) => /^bearer +(.+)$/i.exec(value)?.[1]);
  return values.length > 1 ? values : tokens;
}

/** @param {string[]} problem the code and the detail */
function unauthorized([code = "", detail = ""]) {
  const error = code === "invalid_token" ? ', error="invalid_token"' : "";
  const title = code === "invalid_token" ? "The access token is not valid" : "Sign in first";
  return refuse(401, title, code, detail, { "WWW-Authenticate": `Bearer realm="latchkey"${error}` });
}

/**
 * A problem (RFC 9457) with the same members and codes as Latchkey's own.
 *
 * @type {(status: 401 | 403 | 503, title: string, code: string, detail: string, headers: Record<string, string>) => { refusal: Refusal }}
 */
function refuse(status, title, code, detail, headers) {
  const body = JSON.stringify({ type: `urn:latchkey:problem:${code}`, title, status, detail, code });
  const common = { "Content-Type": "application/problem+json", "Cache-Control": "no-store" };
  return { refusal: { status, headers: { ...common, ...headers }, body } };
}
