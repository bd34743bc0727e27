/** What an access token says (RFC 9068, section 2.2), read strictly. */

import { InvalidToken } from "./errors.js";

/**
 * @typedef {object} Claims What a good access token says. Times are seconds since the epoch.
 * @property {string} sub Whose it is: the account's UUID, or the service client's name where it acts for itself.
 * @property {string} clientId
 * @property {readonly string[]} scope
 * @property {readonly string[]} roles
 * @property {string} iss
 * @property {readonly string[]} aud
 * @property {string} jti
 * @property {number} iat
 * @property {number} exp
 * @property {string} [sid] The session's UUID; none in a token that a service client got for itself.
 * @property {number} [authTime] When the user signed in; there exactly where `sid` is.
 * @property {string} [acr]
 * @property {readonly string[]} amr
 */

/** @typedef {Record<string, unknown>} Members */

/**
 * Checks what a token says against what is expected here.
 *
 * @param {Members} members
 * @param {{ issuer: string, audience: string, leewayMs: number }} expected
 * @param {number} now in milliseconds since the epoch
 * @returns {Readonly<Claims>}
 * @throws {InvalidToken} where a claim is missing, of a wrong type, or not as it must be
 */
export function readClaims(members, expected, now) {
  const iss = text(members, "iss");
  if (iss !== expected.issuer) throw new InvalidToken("iss is another");
  const aud = typeof members.aud === "string" ? [text(members, "aud")] : texts(members, "aud");
  if (!aud.includes(expected.audience)) throw new InvalidToken("aud doesn't name this service");
  const [exp, iat, nbf] = [time(members, "exp"), time(members, "iat"), optional(time, members, "nbf")];
  if (now >= exp * 1000 + expected.leewayMs) throw new InvalidToken("it has expired");
  if (Math.max(iat, nbf ?? 0) * 1000 > now + expected.leewayMs) throw new InvalidToken("it is not valid yet");
  const [sid, authTime] = [optional(text, members, "sid"), optional(time, members, "auth_time")];
  if ((sid === undefined) !== (authTime === undefined)) throw new InvalidToken("sid and auth_time don't come together");
  const acr = optional(text, members, "acr");
  return Object.freeze({
    sub: text(members, "sub"),
    clientId: text(members, "client_id"),
    scope: scopes(members),
    roles: texts(members, "roles"),
    iss,
    aud,
    jti: text(members, "jti"),
    iat,
    exp,
    ...(sid !== undefined && authTime !== undefined && { sid, authTime }),
    ...(acr !== undefined && { acr }),
    amr: texts(members, "amr"),
  });
}

/**
 * @template T
 * @param {(members: Members, name: string) => T} read
 * @param {Members} members
 * @param {string} name
 */
function optional(read, members, name) {
  return name in members ? read(members, name) : undefined;
}

/** @type {(members: Members, name: string) => string} */
function text(members, name) {
  const value = members[name];
  if (typeof value !== "string" || value === "") throw new InvalidToken(`${name} is missing or not a text`);
  return value;
}

/** @type {(members: Members, name: string) => string[]} */
function texts(members, name) {
  const value = members[name] === undefined ? [] : members[name];
  if (!Array.isArray(value) || !value.every((each) => typeof each === "string")) {
    throw new InvalidToken(`${name} is not a list of texts`);
  }
  return value;
}

/** @type {(members: Members) => string[]} */
function scopes(members) {
  const value = members.scope ?? "";
  if (typeof value !== "string" || members.scope === null) throw new InvalidToken("scope is not a text");
  return value.split(" ").filter(Boolean);
}

/** @type {(members: Members, name: string) => number} */
function time(members, name) {
  const value = members[name];
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) {
    throw new InvalidToken(`${name} is missing or not a time`);
  }
  return value;
}
