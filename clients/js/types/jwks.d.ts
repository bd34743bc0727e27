/** @typedef {import("jose").CryptoKey} CryptoKey */
/** @typedef {{ kid: string, alg: string, public: CryptoKey }} Key A public key and the only algorithm that it may be used with. */
/**
 * Parses a JWK Set into its usable keys by `kid`. Keys for other purposes and unsupported keys are left out.
 *
 * @param {unknown} document
 * @returns {Promise<Map<string, Key>>}
 * @throws {ProtocolError} if the document is not a JWK Set
 */
export function parseJwks(document: unknown): Promise<Map<string, Key>>;
/** The accepted signature algorithms, all asymmetric (RFC 8725, section 3.1), and their key types. @type {ReadonlyMap<string, { kty: string, crv?: string }>} */
export const ALGORITHMS: ReadonlyMap<string, {
    kty: string;
    crv?: string;
}>;
export type CryptoKey = import("jose").CryptoKey;
/**
 * A public key and the only algorithm that it may be used with.
 */
export type Key = {
    kid: string;
    alg: string;
    public: CryptoKey;
};
