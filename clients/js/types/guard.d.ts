/**
 * @typedef {object} GuardOptions
 * @property {boolean} [allowClients] Whether tokens that service clients got for themselves, without a user's session, are let
 *   in too. Not by default.
 */
/** @typedef {{ status: 401 | 503, headers: Record<string, string>, body: string }} Refusal */
/**
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("node:http").IncomingMessage} request
 * @param {GuardOptions} options
 * @returns {Promise<{ claims: Readonly<import("./claims.js").Claims> } | { refusal: Refusal }>}
 * @throws {Error} only what is no answer to a token
 */
export function guard(verifier: import("./verifier.js").Verifier, request: import("node:http").IncomingMessage, options: GuardOptions): Promise<{
    claims: Readonly<import("./claims.js").Claims>;
} | {
    refusal: Refusal;
}>;
export type GuardOptions = {
    /**
     * Whether tokens that service clients got for themselves, without a user's session, are let
     * in too. Not by default.
     */
    allowClients?: boolean | undefined;
};
export type Refusal = {
    status: 401 | 503;
    headers: Record<string, string>;
    body: string;
};
