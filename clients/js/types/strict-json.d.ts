/**
 * Parses JSON, and refuses an object with two members of the same name.
 *
 * @param {string | Uint8Array} source text, or bytes in UTF-8
 * @returns {unknown}
 * @throws {Error} for invalid JSON and duplicate members
 */
export function parse(source: string | Uint8Array): unknown;
/**
 * Parses JSON that must be an object.
 *
 * @param {string | Uint8Array} source
 * @returns {Record<string, unknown>}
 * @throws {Error} for invalid JSON, duplicate members, and JSON that is not an object
 */
export function parseObject(source: string | Uint8Array): Record<string, unknown>;
