/** Parses access tokens and verifies their signatures (RFC 7515, RFC 8725). */

import "./webcrypto.js";

import { compactVerify } from "jose";

import { InvalidToken } from "./errors.js";
import { parseObject } from "./strict-json.js";

/** Longer tokens are refused without being parsed. */
const MAX_BYTES = 8192;

const BASE64URL = /^[A-Za-z0-9_-]*$/;

/** @typedef {{ text: string, alg: string, kid: string, payload: string }} UnverifiedToken A well-formed token whose signature is not verified yet. */

/**
 * Parses a token and its header; the payload stays encoded. `jku`, `x5u`, `jwk` and `x5c` are ignored: keys come from the issuer only.
 *
 * @param {unknown} text
 * @returns {UnverifiedToken}
 * @throws {InvalidToken} if the token is too long or does not have three parts, or its header is not acceptable
 */
export function parseToken(text) {
  if (typeof text !== "string") throw new InvalidToken("malformed");
  if (text.length > MAX_BYTES) throw new InvalidToken("too_long");
  const [headerPart, payload, signature, ...more] = text.split(".");
  if (headerPart === undefined || payload === undefined || signature === undefined || more.length > 0) {
    throw new InvalidToken("malformed");
  }
  const header = decodeObject(headerPart);
  const { alg, typ = null, kid = null } = header;
  if (typeof alg !== "string" || !(typ === null || typeof typ === "string") || !(kid === null || typeof kid === "string")) {
    throw new InvalidToken("malformed");
  }
  if ("crit" in header) throw new InvalidToken("critical_header");
  // A JWT without `typ`, or with another one, is not an access token: it may be an ID token (RFC 9068, section 4).
  if (typ === null || !["at+jwt", "application/at+jwt"].includes(typ.toLowerCase())) throw new InvalidToken("wrong_type");
  if (!kid) throw new InvalidToken("unknown_key");
  decodeBase64Url(signature); // throws unless the encoding is canonical
  return { text, alg, kid, payload };
}

/**
 * Verifies the signature with `key`, which the token's `kid` names, and returns the payload. Only the key's own algorithm is accepted.
 *
 * @param {UnverifiedToken} token
 * @param {import("./jwks.js").Key} key
 * @returns {Promise<Record<string, unknown>>}
 * @throws {InvalidToken} if the token names another algorithm, the signature is wrong, or the payload is not a JSON object
 */
export async function verifySignature(token, key) {
  if (token.alg !== key.alg) throw new InvalidToken("wrong_algorithm");
  try {
    await compactVerify(token.text, key.public, { algorithms: [key.alg] });
  } catch {
    throw new InvalidToken("bad_signature");
  }
  return decodeObject(token.payload);
}

/** @param {string} part */
function decodeBase64Url(part) {
  // `Buffer.from` skips characters that are not base64url.
  if (!BASE64URL.test(part)) throw new InvalidToken("malformed");
  const decoded = Buffer.from(part, "base64url");
  // Only the canonical encoding is accepted: unused bits of the last character must be zero.
  if (decoded.toString("base64url") !== part) throw new InvalidToken("malformed");
  return decoded;
}

/** @param {string} part */
function decodeObject(part) {
  const decoded = decodeBase64Url(part);
  try {
    return parseObject(decoded);
  } catch {
    throw new InvalidToken("malformed");
  }
}
