/**
 * Authenticates a request by its access token.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("node:http").IncomingMessage} request
 * @param {GuardOptions} options
 * @returns {Promise<{ claims: Claims } | { refusal: Refusal }>}
 */
export function authenticate(verifier: import("./verifier.js").Verifier, request: import("node:http").IncomingMessage, options: GuardOptions): Promise<{
    claims: Claims;
} | {
    refusal: Refusal;
}>;
/**
 * The refusal of a request for which the verifier threw an error; undefined for any other error.
 *
 * @param {unknown} error
 * @returns {Refusal | undefined}
 */
export function refusalOfError(error: unknown): Refusal | undefined;
/**
 * The refusal of a request whose claims have none of these roles.
 *
 * @param {Claims} claims
 * @param {readonly string[]} roles
 * @returns {Refusal | undefined}
 */
export function missingRole(claims: Claims, roles: readonly string[]): Refusal | undefined;
/**
 * The refusal of a request whose claims lack one of these scopes (RFC 6750, section 3.1).
 *
 * @param {Claims} claims
 * @param {readonly string[]} scopes
 * @returns {Refusal | undefined}
 */
export function missingScope(claims: Claims, scopes: readonly string[]): Refusal | undefined;
/**
 * The refusal of a request whose user must authenticate again, or with stronger means (RFC 9470, section 3). The claims need one of
 * the values of `acr`, and an authentication at most `maxAge` seconds old.
 *
 * @param {Claims} claims
 * @param {{ acr?: readonly string[] | undefined, maxAge?: number | undefined }} required
 * @param {number} now in milliseconds since 1970
 * @returns {Refusal | undefined}
 */
export function insufficientAuthentication(claims: Claims, { acr, maxAge }: {
    acr?: readonly string[] | undefined;
    maxAge?: number | undefined;
}, now: number): Refusal | undefined;
/**
 * The claims of a request that the middleware or the hook has authenticated.
 *
 * @param {object} request
 * @returns {Claims}
 * @throws {LatchkeyError} if neither has authenticated the request
 */
export function claimsOf(request: object): Claims;
export type Claims = Readonly<import("./claims.js").Claims>;
export type GuardOptions = {
    /**
     * Whether tokens that service clients obtained for themselves, without a user's session, are
     * accepted too. False by default.
     */
    allowClients?: boolean | undefined;
    /**
     * Whether WebSockets and streaming responses are closed when the session of their request ends:
     * when it is revoked, the claims of its account change, or its last known token expires. True by default.
     */
    closeOnEnd?: boolean | undefined;
};
/**
 * A complete response that refuses the request.
 */
export type Refusal = {
    status: 401 | 403 | 503;
    headers: Record<string, string>;
    body: string;
};
/**
 * A refusal before it is written as a response (RFC 9457).
 */
export type Problem = {
    status: 401 | 403 | 503;
    title: string;
    code: string;
    detail: string;
    /**
     * The parameters after `realm` in the `WWW-Authenticate` header. Without them, no such header is sent.
     */
    challenge?: string | undefined;
    /**
     * The `Retry-After` header, in seconds.
     */
    retryAfter?: string | undefined;
};
