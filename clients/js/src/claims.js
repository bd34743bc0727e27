/** The claims of an access token (RFC 9068, section 2.2), validated strictly. */

import { InvalidToken } from "./errors.js";

/**
 * @typedef {object} Claims The claims of a valid access token. Times are seconds since the epoch.
 * @property {string} sub The account's UUID, or the client id if the token is a service client's own.
 * @property {string} clientId The OAuth client that the token was issued to.
 * @property {readonly string[]} scope
 * @property {readonly string[]} roles
 * @property {string} iss
 * @property {readonly string[]} aud
 * @property {string} jti
 * @property {number} iat
 * @property {number} exp
 * @property {string} [sid] The session's UUID; absent in a service client's own token.
 * @property {number} [authTime] When the user last authenticated; absent in a service client's own token.
 * @property {number} [sessionStart] When the session began; absent in tokens of Latchkey 0.1.
 * @property {number} [claimsVersion] The version of the account's claims; absent in tokens of Latchkey 0.1.
 * @property {string} [acr]
 * @property {readonly string[]} amr
 */

/** @typedef {Record<string, unknown>} Members The payload: a JSON object. */

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
// Besides `iss` and `aud`, which are checked together with their values.
const REQUIRED = ["sub", "client_id", "iat", "exp", "jti"];

/**
 * Validates the payload of a token whose signature has been verified.
 *
 * @param {Members} payload
 * @param {{ issuer: string, audience: string, leewayMs: number }} expected
 * @param {number} now in milliseconds since the epoch
 * @returns {Readonly<Claims>}
 * @throws {InvalidToken} if a claim is missing, has a wrong type or a wrong value; a claim that is null counts as missing
 */
export function validateClaims(payload, expected, now) {
  const members = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== null));
  // Types are checked before values. The defaults of required claims are placeholders: a missing claim is refused below.
  const iss = optionalString(members, "iss");
  const aud = typeof members.aud === "string" ? [members.aud] : stringList(members, "aud");
  const claims = {
    sub: optionalString(members, "sub") ?? "",
    clientId: optionalString(members, "client_id") ?? "",
    scope: (optionalString(members, "scope") ?? "").split(" ").filter(Boolean),
    roles: stringList(members, "roles"),
    jti: optionalString(members, "jti") ?? "",
    iat: optionalInteger(members, "iat") ?? 0,
    exp: optionalInteger(members, "exp") ?? 0,
    amr: stringList(members, "amr"),
  };
  const sid = optionalString(members, "sid");
  const acr = optionalString(members, "acr");
  const authTime = optionalInteger(members, "auth_time");
  const nbf = optionalInteger(members, "nbf");
  const sessionStart = optionalInteger(members, "session_start");
  const claimsVersion = optionalInteger(members, "claims_version");
  if (claimsVersion !== undefined && claimsVersion < 0) throw new InvalidToken("malformed");

  if (iss === undefined) throw new InvalidToken("missing_claim", "iss");
  if (iss !== expected.issuer) throw new InvalidToken("wrong_issuer");
  if (!("aud" in members)) throw new InvalidToken("missing_claim", "aud");
  if (!aud.includes(expected.audience)) throw new InvalidToken("wrong_audience");
  for (const name of REQUIRED) if (!(name in members)) throw new InvalidToken("missing_claim", name);
  checkSessionClaims(claims, sid, authTime);
  if (now >= claims.exp * 1000 + expected.leewayMs) throw new InvalidToken("expired");
  const validFrom = Math.max(claims.iat, nbf ?? claims.iat);
  if (validFrom * 1000 > now + expected.leewayMs) throw new InvalidToken("not_yet_valid");
  // Optional members are left out rather than undefined. Those of a session are only in a token with `sid`.
  return Object.freeze({
    ...claims,
    iss,
    aud,
    ...(sid !== undefined && authTime !== undefined && { sid, authTime }),
    ...(sid !== undefined && sessionStart !== undefined && { sessionStart }),
    ...(sid !== undefined && claimsVersion !== undefined && { claimsVersion }),
    ...(acr !== undefined && { acr }),
  });
}

/**
 * Requires `sid` and `auth_time` in a user's token, and refuses a token without `sid` that is not a service client's own.
 *
 * @param {{ sub: string, clientId: string }} claims
 * @param {string | undefined} sid
 * @param {number | undefined} authTime
 */
function checkSessionClaims({ sub, clientId }, sid, authTime) {
  if (sid !== undefined) {
    if (authTime === undefined) throw new InvalidToken("missing_claim", "auth_time");
    if (!UUID.test(sid) || !UUID.test(sub)) throw new InvalidToken("malformed");
  } else if (authTime !== undefined || sub !== clientId) {
    // RFC 9068, section 2.2: without a user, `sub` is the client. Any other token without a session is incomplete.
    throw new InvalidToken("missing_claim", "sid");
  }
}

/** @type {(members: Members, name: string) => string | undefined} */
function optionalString(members, name) {
  const value = members[name];
  if (value !== undefined && typeof value !== "string") throw new InvalidToken("malformed");
  return value;
}

/** @type {(members: Members, name: string) => string[]} */
function stringList(members, name) {
  const value = members[name] ?? [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) throw new InvalidToken("malformed");
  return value;
}

/** @type {(members: Members, name: string) => number | undefined} */
function optionalInteger(members, name) {
  const value = members[name];
  if (value !== undefined && (typeof value !== "number" || !Number.isSafeInteger(value))) throw new InvalidToken("malformed");
  return value;
}
