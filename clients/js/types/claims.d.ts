/**
 * @typedef {object} Claims What a good access token says. Times are seconds since the epoch.
 * @property {string} sub Whose it is: the account's UUID, or the service client's name where it acts for itself.
 * @property {string} clientId
 * @property {readonly string[]} scope
 * @property {readonly string[]} roles
 * @property {string} iss
 * @property {readonly string[]} aud
 * @property {string} jti
 * @property {number} iat
 * @property {number} exp
 * @property {string} [sid] The session's UUID; none in a token that a service client got for itself.
 * @property {number} [authTime] When the user signed in; there exactly where `sid` is.
 * @property {string} [acr]
 * @property {readonly string[]} amr
 */
/** @typedef {Record<string, unknown>} Members */
/**
 * Checks what a token says against what is expected here.
 *
 * @param {Members} members
 * @param {{ issuer: string, audience: string, leewayMs: number }} expected
 * @param {number} now in milliseconds since the epoch
 * @returns {Readonly<Claims>}
 * @throws {InvalidToken} where a claim is missing, of a wrong type, or not as it must be
 */
export function readClaims(members: Members, expected: {
    issuer: string;
    audience: string;
    leewayMs: number;
}, now: number): Readonly<Claims>;
/**
 * What a good access token says. Times are seconds since the epoch.
 */
export type Claims = {
    /**
     * Whose it is: the account's UUID, or the service client's name where it acts for itself.
     */
    sub: string;
    clientId: string;
    scope: readonly string[];
    roles: readonly string[];
    iss: string;
    aud: readonly string[];
    jti: string;
    iat: number;
    exp: number;
    /**
     * The session's UUID; none in a token that a service client got for itself.
     */
    sid?: string | undefined;
    /**
     * When the user signed in; there exactly where `sid` is.
     */
    authTime?: number | undefined;
    acr?: string | undefined;
    amr: readonly string[];
};
export type Members = Record<string, unknown>;
