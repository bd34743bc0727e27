/** @typedef {{ text: string, alg: string, kid: string, payload: string }} Unverified A token whose signature nobody has looked at. */
/**
 * Reads the header. `jku`, `x5u`, `jwk` and `x5c` are not looked at: keys come from the issuer alone.
 *
 * @param {unknown} text
 * @returns {Unverified}
 * @throws {InvalidToken} for what isn't a token of three parts, or has a header that is not to be accepted
 */
export function parseToken(text: unknown): Unverified;
/**
 * What the token says, if this key, which it names, signed it with the one algorithm of that key.
 *
 * @param {Unverified} token
 * @param {import("./jwks.js").Key} key
 * @returns {Promise<Record<string, unknown>>}
 * @throws {InvalidToken} otherwise
 */
export function verifyToken(token: Unverified, key: import("./jwks.js").Key): Promise<Record<string, unknown>>;
/**
 * A token whose signature nobody has looked at.
 */
export type Unverified = {
    text: string;
    alg: string;
    kid: string;
    payload: string;
};
