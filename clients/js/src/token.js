/** The signature and the outer form of an access token (RFC 7515, RFC 8725). */

import "./webcrypto.js";

import { compactVerify } from "jose";

import { InvalidToken } from "./errors.js";
import { ALGORITHMS } from "./jwks.js";
import { parseObject } from "./strict-json.js";

/** A longer token is refused unread. */
const MAX_BYTES = 8192;

const PART = /^[A-Za-z0-9_-]+$/;

/** @typedef {{ text: string, alg: string, kid: string, payload: string }} Unverified A token whose signature nobody has looked at. */

/**
 * Reads the header. `jku`, `x5u`, `jwk` and `x5c` are not looked at: keys come from the issuer alone.
 *
 * @param {unknown} text
 * @returns {Unverified}
 * @throws {InvalidToken} for what isn't a token of three parts, or has a header that is not to be accepted
 */
export function parseToken(text) {
  if (typeof text !== "string" || text.length > MAX_BYTES) throw new InvalidToken("it is too long or not a token");
  const [first, payload, signature, ...more] = text.split(".");
  if (first === undefined || payload === undefined || signature === undefined || more.length > 0) {
    throw new InvalidToken("it has not three parts");
  }
  const header = decode(first, "the header");
  if ("crit" in header) throw new InvalidToken("crit is not understood");
  const { typ, alg, kid } = header;
  if (typeof typ !== "string" || !["at+jwt", "application/at+jwt"].includes(typ.toLowerCase())) {
    throw new InvalidToken("typ is not at+jwt");
  }
  if (typeof alg !== "string" || !ALGORITHMS.has(alg)) throw new InvalidToken("alg is not allowed");
  if (typeof kid !== "string" || kid === "") throw new InvalidToken("kid is missing");
  bytes(signature, "the signature");
  return { text, alg, kid, payload };
}

/**
 * What the token says, if this key, which it names, signed it with the one algorithm of that key.
 *
 * @param {Unverified} token
 * @param {import("./jwks.js").Key} key
 * @returns {Promise<Record<string, unknown>>}
 * @throws {InvalidToken} otherwise
 */
export async function verifyToken(token, key) {
  if (token.alg !== key.alg) throw new InvalidToken("alg is not the one of its key");
  try {
    await compactVerify(token.text, key.public, { algorithms: [key.alg] });
  } catch {
    throw new InvalidToken("its signature is wrong");
  }
  return decode(token.payload, "the payload");
}

/** @type {(part: string, name: string) => Buffer} */
function bytes(part, name) {
  const decoded = PART.test(part) ? Buffer.from(part, "base64url") : undefined;
  // the last character must not carry bits that mean nothing
  if (decoded?.toString("base64url") !== part) throw new InvalidToken(`${name} is not base64url`);
  return decoded;
}

/** @type {(part: string, name: string) => Record<string, unknown>} */
function decode(part, name) {
  const decoded = bytes(part, name);
  try {
    return parseObject(decoded);
  } catch {
    throw new InvalidToken(`${name} is not an object in JSON`);
  }
}
