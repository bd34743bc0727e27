/** Authenticates and authorizes requests for the middlewares. The result is claims, or the response that refuses the request. */

import { InvalidToken, LatchkeyError, Unavailable } from "./errors.js";
import { originOf } from "./origin.js";

/** @typedef {Readonly<import("./claims.js").Claims>} Claims */

/**
 * @typedef {object} GuardOptions
 * @property {boolean} [allowClients] Whether tokens that service clients obtained for themselves, without a user's session, are
 *   accepted too. False by default.
 * @property {boolean} [closeOnEnd] Whether WebSockets and streaming responses are closed when the session of their request ends:
 *   when it is revoked, the claims of its account change, or its last known token expires. True by default.
 */

/** @typedef {{ status: 401 | 403 | 503, headers: Record<string, string>, body: string }} Refusal A complete response that refuses the request. */

/**
 * @typedef {object} Problem A refusal before it is written as a response (RFC 9457).
 * @property {401 | 403 | 503} status
 * @property {string} title
 * @property {string} code
 * @property {string} detail
 * @property {string} [challenge] The parameters after `realm` in the `WWW-Authenticate` header. Without them, no such header is sent.
 * @property {string} [retryAfter] The `Retry-After` header, in seconds.
 */

/** @type {Problem} */
const AUTHENTICATION_REQUIRED = {
  status: 401,
  title: "Sign in first",
  code: "authentication_required",
  detail: "Send an access token.",
  challenge: "", // a challenge without `error` (RFC 6750, section 3.1)
};
/** @type {Problem} */
const INVALID_TOKEN = {
  status: 401,
  title: "The access token is not valid",
  code: "invalid_token",
  detail: "The access token is not valid, or its session has ended.",
  challenge: ', error="invalid_token"',
};
const OUT_OF_DATE = "The claims of the account have changed. Refresh the access token.";
/** @type {Problem} */
const CLAIMS_CHANGED = {
  status: 401,
  title: "The access token is out of date",
  code: "claims_changed",
  detail: OUT_OF_DATE,
  challenge: `, error="invalid_token", error_description="${OUT_OF_DATE}", reason="claims_changed"`,
};
/** @type {Problem} */
const UNAVAILABLE = {
  status: 503,
  title: "Not available at the moment",
  code: "unavailable",
  detail: "The access token cannot be verified at the moment. Try again.",
  retryAfter: "1",
};

/** The assurance levels, lowest first. */
const LEVELS = ["aal1", "aal2", "aal3"];

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
  // The verifier cannot know which of several headers the application means.
  if (others.length > 0) return { refusal: refuse(INVALID_TOKEN) };
  if (token === undefined) return { refusal: refuse(AUTHENTICATION_REQUIRED) };
  try {
    const claims = await verifier.verify(token);
    // Only the tokens that service clients obtain for themselves have no session.
    const allowed = claims.sid !== undefined || options.allowClients;
    return allowed ? { claims } : { refusal: refuse(INVALID_TOKEN) };
  } catch (error) {
    const refusal = refusalOfError(error);
    if (!refusal) throw error;
    return { refusal };
  }
}

/**
 * The refusal of a request for which the verifier threw an error; undefined for any other error.
 *
 * @param {unknown} error
 * @returns {Refusal | undefined}
 */
export function refusalOfError(error) {
  if (error instanceof InvalidToken) return refuse(error.reason === "claims_changed" ? CLAIMS_CHANGED : INVALID_TOKEN);
  return error instanceof Unavailable ? refuse(UNAVAILABLE) : undefined;
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
  return refuse({ status: 403, title: "Not allowed", code: "insufficient_role", detail: "The account lacks the required role." });
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
  return refuse({
    status: 403,
    title: "Not allowed",
    code: "insufficient_scope",
    detail: "The access token lacks a required scope.",
    challenge: `, error="insufficient_scope", scope="${scopes.join(" ")}"`,
  });
}

/**
 * The refusal of a request whose user must authenticate again, or with stronger means (RFC 9470, section 3). The claims need one of
 * the values of `acr`, and an authentication at most `maxAge` seconds old.
 *
 * @param {Claims} claims
 * @param {{ acr?: readonly string[] | undefined, maxAge?: number | undefined }} required
 * @param {number} now in milliseconds since 1970
 * @returns {Refusal | undefined}
 */
export function insufficientAuthentication(claims, { acr, maxAge }, now) {
  const strongEnough = acr === undefined || acr.some((value) => satisfies(claims.acr, value));
  const recentEnough = maxAge === undefined || isRecent(claims, maxAge, now);
  if (strongEnough && recentEnough) return undefined;
  const values = acr === undefined ? "" : `, acr_values="${acr.join(" ")}"`;
  const age = maxAge === undefined ? "" : `, max_age="${maxAge}"`;
  return refuse({
    status: 401,
    title: "Stronger or more recent authentication required",
    code: "insufficient_user_authentication",
    detail: "Sign in again as the challenge requires.",
    challenge: `, error="insufficient_user_authentication"${values}${age}`,
  });
}

/**
 * Whether the `acr` of a token satisfies the required value: it is equal, or a higher assurance level.
 *
 * @param {string | undefined} acr
 * @param {string} required
 */
function satisfies(acr, required) {
  if (acr === undefined) return false;
  if (acr === required) return true;
  const requiredLevel = LEVELS.indexOf(required); // -1 if the required value is not an assurance level
  return requiredLevel >= 0 && LEVELS.indexOf(acr) > requiredLevel;
}

/**
 * Whether the user authenticated at most `maxAge` ago. Adds the verifier's tolerance for clock skew.
 *
 * @param {Claims} claims
 * @param {number} maxAge in seconds
 * @param {number} now in milliseconds since 1970
 */
function isRecent(claims, maxAge, now) {
  if (claims.authTime === undefined) return false;
  const leewayMs = originOf(claims)?.leewayMs ?? 0;
  return now - claims.authTime * 1000 <= maxAge * 1000 + leewayMs;
}

/**
 * The claims of a request that the middleware or the hook has authenticated.
 *
 * @param {object} request
 * @returns {Claims}
 * @throws {LatchkeyError} if neither has authenticated the request
 */
export function claimsOf(request) {
  const { auth } = /** @type {{ auth?: Claims | null }} */ (request);
  if (!auth) throw new LatchkeyError("the request is not authenticated: register the middleware or the hook before this handler");
  return auth;
}

/**
 * The bearer token of each Authorization header; undefined for a header with another scheme. Reads `rawHeaders`, because Node's
 * `headers` has only the first of several Authorization headers.
 *
 * @param {import("node:http").IncomingMessage} request
 */
function bearerTokens({ rawHeaders }) {
  // `rawHeaders` alternates: names at even positions, values at odd ones.
  const values = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === "authorization");
  return values.map((value) => /^bearer +(.+)$/i.exec(value)?.[1]);
}

/**
 * The response with a problem (RFC 9457), which has the same members and codes as the problems that Latchkey itself returns.
 *
 * @param {Problem} problem
 * @returns {Refusal}
 */
function refuse({ status, title, code, detail, challenge, retryAfter }) {
  /** @type {Record<string, string>} */
  const headers = { "Content-Type": "application/problem+json", "Cache-Control": "no-store" };
  if (challenge !== undefined) headers["WWW-Authenticate"] = `Bearer realm="latchkey"${challenge}`;
  if (retryAfter !== undefined) headers["Retry-After"] = retryAfter;
  return { status, headers, body: JSON.stringify({ type: `urn:latchkey:problem:${code}`, title, status, detail, code }) };
}
