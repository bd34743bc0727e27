/** The options of a verifier, validated once. */

import { LatchkeyError } from "./errors.js";

/**
 * @typedef {object} Options How tokens are verified. Durations are in milliseconds. A value after a colon is the default.
 * @property {string} issuer Latchkey's issuer, exactly as in its tokens: a URL without a trailing slash.
 * @property {string} audience The audience that a token's `aud` must contain.
 * @property {string} clientId The id of the service client that `latchkey client add` created.
 * @property {string} clientSecret The secret of the service client. It is never printed.
 * @property {"introspect" | "refuse"} [feedLost] The handling of tokens while the feed is lost: each is introspected (the
 *   default), or all are refused with `Unavailable`.
 * @property {number} [maxStalenessMs] How long the revocations in memory count as up to date without an event of the feed: 5000.
 *   Then the feed counts as lost. The feed has an event every second at least: its heartbeat.
 * @property {number} [leewayMs] The clock skew that is tolerated for `exp`, `nbf` and `iat`: 5000. At most a minute.
 * @property {number} [requestTimeoutMs] The timeout of metadata and key requests, and of connecting to the feed: 5000.
 * @property {number} [introspectionTimeoutMs] The timeout of one introspection: 1000.
 * @property {number} [keysMaxAgeMs] How often metadata and keys are refreshed: 300000.
 * @property {number} [keysCooldownMs] The minimum time between two refreshes that tokens with an unknown key id trigger: 2000.
 * @property {number} [maxRevocations] The maximum number of revocations in memory: 100000. With more, the feed counts as lost
 *   until enough have expired.
 * @property {number} [maxRegistrations] The maximum number of registrations of `onEnd`, which open connections and responses hold:
 *   100000. Above it, `onEnd` throws `Unavailable` and the middlewares answer 503.
 * @property {number} [endAfterSilenceMs] How long registrations of `onEnd` stay without up-to-date revocations before they end with
 *   `feed_lost`: the value of `maxStalenessMs`, which is also the minimum.
 * @property {typeof globalThis.fetch} [fetch] A replacement for Node's own `fetch`.
 * @property {(message: string) => void} [log] Receives warnings about the feed and the keys. By default they go to `console.warn`;
 *   `() => {}` turns them off.
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
  maxRegistrations: 100_000,
};

// Node's timers take at most this. Counts have the same maximum.
const MAX_NUMBER = 2 ** 31 - 1;

/** @type {ReadonlySet<string>} */
const MAY_BE_ZERO = new Set(["leewayMs", "keysCooldownMs"]);

/**
 * Validates options and adds defaults.
 *
 * @param {Options} options
 * @returns {Readonly<Settings>}
 * @throws {LatchkeyError} for invalid values
 */
export function settingsOf(options) {
  const defined = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  /** @type {Record<string, unknown>} */
  const all = { fetch: globalThis.fetch, log: logToConsole, ...DEFAULTS, ...defined };
  all.endAfterSilenceMs ??= all.maxStalenessMs;
  for (const name of ["audience", "clientId", "clientSecret"]) {
    if (typeof all[name] !== "string" || all[name] === "") throw new LatchkeyError(`${name} must be a non-empty string`);
  }
  if (!isIssuer(all.issuer)) {
    throw new LatchkeyError("issuer must be an http or https URL without credentials, trailing slash, query or fragment");
  }
  if (all.feedLost !== "introspect" && all.feedLost !== "refuse") {
    throw new LatchkeyError("feedLost must be 'introspect' or 'refuse'");
  }
  const numeric = Object.keys(DEFAULTS).filter((name) => name !== "feedLost");
  for (const name of [...numeric, "endAfterSilenceMs"]) {
    const value = all[name];
    const mayBeZero = MAY_BE_ZERO.has(name);
    const isInRange = typeof value === "number" && (mayBeZero ? value >= 0 : value > 0) && value <= MAX_NUMBER;
    if (!isInRange) {
      const minimum = mayBeZero ? "of at least 0" : "above 0";
      throw new LatchkeyError(`${name} must be a number ${minimum} and below 2^31`);
    }
  }
  // All members have been checked. TypeScript casts a record only by way of `unknown`.
  const settings = /** @type {Settings} */ (/** @type {unknown} */ (all));
  if (settings.leewayMs > 60_000) throw new LatchkeyError("leewayMs must be at most a minute");
  if (settings.endAfterSilenceMs < settings.maxStalenessMs) throw new LatchkeyError("endAfterSilenceMs must be at least maxStalenessMs");
  return Object.freeze(settings);
}

/** @param {string} message */
function logToConsole(message) {
  console.warn(`latchkey: ${message}`);
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
