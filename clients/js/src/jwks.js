/** The issuer's public keys, as read from its JWKS (RFC 7517). */

import "./webcrypto.js";

import { importJWK } from "jose";

import { Malformed } from "./errors.js";

/** What may sign an access token, and with which kind of key. @type {ReadonlyMap<string, { kty: string, crv?: string }>} */
export const ALGORITHMS = new Map([
  ["ES256", { kty: "EC", crv: "P-256" }],
  ["EdDSA", { kty: "OKP", crv: "Ed25519" }],
  ["RS256", { kty: "RSA" }],
  ["PS256", { kty: "RSA" }],
]);

/** More than this in one JWKS are not read. */
const MAX_KEYS = 100;

/** @typedef {import("jose").CryptoKey} CryptoKey */
/** @typedef {{ kid: string, alg: string, public: CryptoKey }} Key A key, with the one algorithm that it may be used with (RFC 8725, section 3.1). */

/**
 * The keys of a JWKS by their `kid`; what is for something else or not understood is left out.
 *
 * @param {unknown} document
 * @returns {Promise<Map<string, Key>>}
 * @throws {Malformed} for what is no JWKS
 */
export async function readKeys(document) {
  const entries = /** @type {{ keys?: unknown } | null} */ (document)?.keys;
  if (!Array.isArray(entries)) throw new Malformed("this is no JWKS");
  /** @type {Map<string, Key>} */
  const keys = new Map();
  for (const entry of entries.slice(0, MAX_KEYS)) {
    const key = await readKey(entry).catch(() => undefined);
    if (key && !keys.has(key.kid)) keys.set(key.kid, key);
  }
  return keys;
}

/**
 * @param {Record<string, unknown>} entry
 * @returns {Promise<Key | undefined>}
 */
async function readKey(entry) {
  const { kid, alg, kty, crv, x, y, n, e, use = "sig", key_ops: operations = ["verify"] } = entry;
  const kind = typeof alg === "string" ? ALGORITHMS.get(alg) : undefined;
  const forThis = use === "sig" && Array.isArray(operations) && operations.includes("verify");
  if (!forThis || typeof kid !== "string" || kid === "" || typeof alg !== "string" || !kind) return undefined;
  if (kty !== kind.kty || (kind.crv !== undefined && crv !== kind.crv)) return undefined;
  // only what is public: a set that gives a private key away is no reason to use it
  const jwk = /** @type {import("jose").JWK} */ (kty === "RSA" ? { kty, n, e } : { kty, crv, x, y });
  const key = /** @type {CryptoKey} */ (await importJWK(jwk, alg));
  const { modulusLength } = /** @type {{ modulusLength?: number }} */ (key.algorithm);
  return modulusLength !== undefined && modulusLength < 2048 ? undefined : { kid, alg, public: key };
}
