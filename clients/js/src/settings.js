/** What a verifier is told by the service that uses it, checked once. */

import { LatchkeyError } from "./errors.js";

/**
 * @typedef {object} Options How tokens are checked. Times are in milliseconds.
 * @property {string} issuer Latchkey's issuer, letter by letter as in its tokens: a URL without a slash at its end.
 * @property {string} audience What must be among the `aud` of a token.
 * @property {string} clientId The name of the service client, from `latchkey client add`.
 * @property {string} clientSecret Its secret. Doesn't print.
 * @property {"introspect" | "refuse"} [feedLost] What happens to tokens while the feed is lost: Latchkey is asked about each
 *   (the default), or none is let in.
 * @property {number} [maxStalenessMs] How long what is known is trusted without a sign of life from the feed: 5000. Well above
 *   its heartbeat of one second.
 * @property {number} [leewayMs] How far clocks may be apart, for `exp`, `nbf` and `iat`: 5000. At most a minute.
 * @property {number} [requestTimeoutMs] For metadata and keys, and for connecting to the feed: 5000.
 * @property {number} [introspectionTimeoutMs] For asking about one token: 1000.
 * @property {number} [keysMaxAgeMs] How often keys are fetched anew though no unknown one was seen: 300000.
 * @property {number} [keysCooldownMs] The least time between two fetches on account of unknown keys: 2000.
 * @property {number} [maxRevocations] Revocations remembered: 100000. Where there are more, it is as if the feed were lost until
 *   enough have expired.
 * @property {typeof globalThis.fetch} [fetch] For those who need another than Node's own.
 * @property {(message: string) => void} [log] Is told what goes wrong with the feed and the keys; nobody by default.
 */

/** @typedef {Required<Options>} Settings */

const DEFAULTS = {
  feedLost: "introspect",
  maxStalenessMs: 5_000,
  leewayMs: 5_000,
  requestTimeoutMs: 5_000,
  introspectionTimeoutMs: 1_000,
  keysMaxAgeMs: 300_000,
  keysCooldownMs: 2_000,
  maxRevocations: 100_000,
};

/** @type {ReadonlySet<string>} */
const MAY_BE_ZERO = new Set(["leewayMs", "keysCooldownMs"]);

/**
 * The options with the defaults for what isn't said.
 *
 * @param {Options} options
 * @returns {Readonly<Settings>}
 * @throws {LatchkeyError} for values that can't work
 */
export function settingsOf(options) {
  const said = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  /** @type {Record<string, unknown>} */
  const all = { fetch: globalThis.fetch, log: () => {}, ...DEFAULTS, ...said };
  for (const name of ["audience", "clientId", "clientSecret"]) {
    if (typeof all[name] !== "string" || all[name] === "") throw new LatchkeyError(`${name} must be a text that isn't empty`);
  }
  if (!isIssuer(all.issuer)) {
    throw new LatchkeyError("issuer must be an http or https URL without a slash at its end, query or fragment");
  }
  if (all.feedLost !== "introspect" && all.feedLost !== "refuse") {
    throw new LatchkeyError("feedLost must be 'introspect' or 'refuse'");
  }
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    const value = all[name];
    if (typeof usual !== "number") continue;
    // timers of Node's end at 2^31 - 1
    if (typeof value !== "number" || !(value >= 0 && value <= 2_147_483_647) || (value === 0 && !MAY_BE_ZERO.has(name))) {
      throw new LatchkeyError(`${name} must be a number above 0 and below 2^31`);
    }
  }
  const settings = /** @type {Settings} */ (/** @type {unknown} */ (all));
  if (settings.leewayMs > 60_000) throw new LatchkeyError("leewayMs must be at most a minute");
  return Object.freeze(settings);
}

/** @param {unknown} text */
function isIssuer(text) {
  if (typeof text !== "string" || text.endsWith("/") || /[?#]/.test(text)) return false;
  try {
    const url = new URL(text);
    return (url.protocol === "http:" || url.protocol === "https:") && url.username === "" && url.password === "";
  } catch {
    return false;
  }
}
