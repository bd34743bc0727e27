/** @typedef {{ text: string, alg: string, kid: string, payload: string }} UnverifiedToken A well-formed token whose signature is not verified yet. */
/**
 * Parses a token and its header; the payload stays encoded. `jku`, `x5u`, `jwk` and `x5c` are ignored: keys come from the issuer only.
 *
 * @param {unknown} text
 * @returns {UnverifiedToken}
 * @throws {InvalidToken} if the token is too long or does not have three parts, or its header is not acceptable
 */
export function parseToken(text: unknown): UnverifiedToken;
/**
 * Verifies the signature with `key`, which the token's `kid` names, and returns the payload. Only the key's own algorithm is accepted.
 *
 * @param {UnverifiedToken} token
 * @param {import("./jwks.js").Key} key
 * @returns {Promise<Record<string, unknown>>}
 * @throws {InvalidToken} if the token names another algorithm, the signature is wrong, or the payload is not a JSON object
 */
export function verifySignature(token: UnverifiedToken, key: import("./jwks.js").Key): Promise<Record<string, unknown>>;
/**
 * A well-formed token whose signature is not verified yet.
 */
export type UnverifiedToken = {
    text: string;
    alg: string;
    kid: string;
    payload: string;
};
