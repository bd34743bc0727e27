/**
 * The origin of the claims that a verifier returned, which later checks of the claims need. It is kept outside of the claims, because
 * apps may serialize these.
 */

/** @typedef {{ kid: string, leewayMs: number }} Origin The key that signed the token, and the verifier's tolerance for clock skew. */

/** @type {WeakMap<object, Origin>} */
const ORIGINS = new WeakMap();

/**
 * Remembers the origin of claims that a verifier is about to return.
 *
 * @param {object} claims
 * @param {Origin} origin
 */
export function setOrigin(claims, origin) {
  ORIGINS.set(claims, origin);
}

/**
 * The origin of claims; undefined for claims that no verifier returned.
 *
 * @param {object} claims
 */
export function originOf(claims) {
  return ORIGINS.get(claims);
}
