/** Parses the issuer's JWK Set (RFC 7517). */

import "./webcrypto.js";

import { importJWK } from "jose";

import { ProtocolError } from "./errors.js";

/** The accepted signature algorithms, all asymmetric (RFC 8725, section 3.1), and their key types. @type {ReadonlyMap<string, { kty: string, crv?: string }>} */
export const ALGORITHMS = new Map([
  ["ES256", { kty: "EC", crv: "P-256" }],
  ["EdDSA", { kty: "OKP", crv: "Ed25519" }],
  ["RS256", { kty: "RSA" }],
  ["PS256", { kty: "RSA" }],
]);

/** Keys beyond this number in one JWK Set are ignored. */
const MAX_KEYS = 100;

/** The smallest modulus of an RSA key (RFC 7518, section 3.3). */
const MIN_RSA_BITS = 2048;

/** @typedef {import("jose").CryptoKey} CryptoKey */
/** @typedef {{ kid: string, alg: string, public: CryptoKey }} Key A public key and the only algorithm that it may be used with. */

/**
 * Parses a JWK Set into its usable keys by `kid`. Keys for other purposes and unsupported keys are left out.
 *
 * @param {unknown} document
 * @returns {Promise<Map<string, Key>>}
 * @throws {ProtocolError} if the document is not a JWK Set
 */
export async function parseJwks(document) {
  const entries = /** @type {{ keys?: unknown } | null} */ (document)?.keys;
  if (!Array.isArray(entries)) throw new ProtocolError("the response is not a JWK Set");
  /** @type {Map<string, Key>} */
  const keys = new Map();
  for (const entry of entries.slice(0, MAX_KEYS)) {
    const key = await parseKey(entry).catch(() => undefined);
    // Of several keys with one `kid`, the first counts.
    if (key && !keys.has(key.kid)) keys.set(key.kid, key);
  }
  return keys;
}

/**
 * Parses a member of the JWK Set. Resolves to `undefined` or rejects if the key is not usable.
 *
 * @param {Record<string, unknown>} entry
 * @returns {Promise<Key | undefined>}
 */
async function parseKey(entry) {
  // `use` and `key_ops` are optional: a key without them may verify signatures.
  const { kid, alg, kty, crv, x, y, n, e, use = "sig", key_ops: operations = ["verify"] } = entry;
  const mayVerify = use === "sig" && Array.isArray(operations) && operations.includes("verify");
  if (!mayVerify || typeof kid !== "string" || kid === "" || typeof alg !== "string") return undefined;
  const type = ALGORITHMS.get(alg);
  if (!type || kty !== type.kty || (type.crv !== undefined && crv !== type.crv)) return undefined;
  // Public members only: a private key that was published by mistake is never loaded.
  const jwk = /** @type {import("jose").JWK} */ (kty === "RSA" ? { kty, n, e } : { kty, crv, x, y });
  const publicKey = /** @type {CryptoKey} */ (await importJWK(jwk, alg));
  // Only RSA keys have a modulus.
  const { modulusLength } = /** @type {{ modulusLength?: number }} */ (publicKey.algorithm);
  if (modulusLength !== undefined && modulusLength < MIN_RSA_BITS) return undefined;
  return { kid, alg, public: publicKey };
}
