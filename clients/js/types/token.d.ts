/** @typedef {{ text: string, alg: string, kid: string, payload: string }} UnverifiedToken A well-formed token whose signature is not verified yet. */
/**
 * Parses the header. `jku`, `x5u`, `jwk` and `x5c` are ignored: keys come from the issuer only.
 *
 * @param {unknown} text
 * @returns {UnverifiedToken}
 * @throws {InvalidToken} if the token does not have three parts or its header is not acceptable
 */
export function parseToken(text: unknown): UnverifiedToken;
/**
 * The payload, if `key`, which the token names, signed it with the key's only algorithm.
 *
 * @param {UnverifiedToken} token
 * @param {import("./jwks.js").Key} key
 * @returns {Promise<Record<string, unknown>>}
 * @throws {InvalidToken} otherwise
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
