/**
 * Reads JSON.
 *
 * @param {string | Uint8Array} source text, or bytes in UTF-8
 * @returns {unknown}
 * @throws {Error} for what isn't JSON or has a member twice
 */
export function parse(source: string | Uint8Array): unknown;
/**
 * The same, for what must be an object.
 *
 * @param {string | Uint8Array} source
 * @returns {Record<string, unknown>}
 * @throws {Error} for what isn't one
 */
export function parseObject(source: string | Uint8Array): Record<string, unknown>;
