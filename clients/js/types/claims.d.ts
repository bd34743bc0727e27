/**
 * Validates the payload of a token whose signature has been verified.
 *
 * @param {Members} payload
 * @param {{ issuer: string, audience: string, leewayMs: number }} expected
 * @param {number} now in milliseconds since the epoch
 * @returns {Readonly<Claims>}
 * @throws {InvalidToken} if a claim is missing, has a wrong type or a wrong value; a claim that is null counts as missing
 */
export function validateClaims(payload: Members, expected: {
    issuer: string;
    audience: string;
    leewayMs: number;
}, now: number): Readonly<Claims>;
/**
 * The claims of a valid access token. Times are seconds since the epoch.
 */
export type Claims = {
    /**
     * The account's UUID, or the client id if the token is a service client's own.
     */
    sub: string;
    /**
     * The OAuth client that the token was issued to.
     */
    clientId: string;
    scope: readonly string[];
    roles: readonly string[];
    iss: string;
    aud: readonly string[];
    jti: string;
    iat: number;
    exp: number;
    /**
     * The session's UUID; absent in a service client's own token.
     */
    sid?: string | undefined;
    /**
     * When the user last authenticated; absent in a service client's own token.
     */
    authTime?: number | undefined;
    /**
     * When the session began; absent in tokens of Latchkey 0.1.
     */
    sessionStart?: number | undefined;
    /**
     * The version of the account's claims; absent in tokens of Latchkey 0.1.
     */
    claimsVersion?: number | undefined;
    acr?: string | undefined;
    amr: readonly string[];
};
/**
 * The payload: a JSON object.
 */
export type Members = Record<string, unknown>;
