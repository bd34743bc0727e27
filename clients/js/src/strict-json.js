/** Unambiguous JSON: duplicate members are refused (RFC 7515, section 4; RFC 7519, section 4). */

/** The parts of JSON text that locate the names of members: brackets and commas (group 1), and strings (group 2). */
const TOKENS = /([{}[\],])|("(?:[^"\\]|\\.)*")/g;
/** Keeps a byte order mark (`ignoreBOM`), which `JSON.parse` refuses. */
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Parses JSON, and refuses an object with two members of the same name.
 *
 * @param {string | Uint8Array} source text, or bytes in UTF-8
 * @returns {unknown}
 * @throws {Error} for invalid JSON and duplicate members
 */
export function parse(source) {
  const text = typeof source === "string" ? source : UTF8.decode(source);
  const value = JSON.parse(text);
  rejectDuplicates(text);
  return value;
}

/**
 * Parses JSON that must be an object.
 *
 * @param {string | Uint8Array} source
 * @returns {Record<string, unknown>}
 * @throws {Error} for invalid JSON, duplicate members, and JSON that is not an object
 */
export function parseObject(source) {
  const value = parse(source);
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("not an object");
  return /** @type {Record<string, unknown>} */ (value);
}

/** @param {string} text valid JSON */
function rejectDuplicates(text) {
  /**
   * The objects and arrays around the current position, outermost first. An array is null. For an object: the names of its members so
   * far, and whether the next string is a name.
   *
   * @type {({ names: Set<string>, expectsName: boolean } | null)[]}
   */
  const open = [];
  for (const [, punctuation, string] of text.matchAll(TOKENS)) {
    const object = open.at(-1);
    if (punctuation === "{") open.push({ names: new Set(), expectsName: true });
    else if (punctuation === "[") open.push(null);
    else if (punctuation === "}" || punctuation === "]") open.pop();
    else if (punctuation === "," && object) object.expectsName = true;
    else if (string !== undefined && object?.expectsName) {
      // "a" and "\u0061" are the same name
      const name = JSON.parse(string);
      if (object.names.has(name)) throw new Error("duplicate member");
      object.names.add(name);
      object.expectsName = false;
    }
  }
}
