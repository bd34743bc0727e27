/** @typedef {import("jose").CryptoKey} CryptoKey */
/** @typedef {{ kid: string, alg: string, public: CryptoKey }} Key A key, with the one algorithm that it may be used with (RFC 8725, section 3.1). */
/**
 * The keys of a JWKS by their `kid`; what is for something else or not understood is left out.
 *
 * @param {unknown} document
 * @returns {Promise<Map<string, Key>>}
 * @throws {Malformed} for what is no JWKS
 */
export function readKeys(document: unknown): Promise<Map<string, Key>>;
/** What may sign an access token, and with which kind of key. @type {ReadonlyMap<string, { kty: string, crv?: string }>} */
export const ALGORITHMS: ReadonlyMap<string, {
    kty: string;
    crv?: string;
}>;
export type CryptoKey = import("jose").CryptoKey;
/**
 * A key, with the one algorithm that it may be used with (RFC 8725, section 3.1).
 */
export type Key = {
    kid: string;
    alg: string;
    public: CryptoKey;
};
