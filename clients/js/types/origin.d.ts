/**
 * Remembers the origin of claims that a verifier is about to return.
 *
 * @param {object} claims
 * @param {Origin} origin
 */
export function setOrigin(claims: object, origin: Origin): void;
/**
 * The origin of claims; undefined for claims that no verifier returned.
 *
 * @param {object} claims
 */
export function originOf(claims: object): Origin | undefined;
/**
 * The key that signed the token, and the verifier's tolerance for clock skew.
 */
export type Origin = {
    kid: string;
    leewayMs: number;
};
