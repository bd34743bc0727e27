/** A scriptable issuer: produces the errors and silences that the real service cannot be made to produce. */

import { constants, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

import { createVerifier } from "latchkey-verify";

export const SECRET = "lk_cs_a-secret-that-must-not-be-printed";
export const SID = "5f0c2f0e-7d1c-4a58-9a3b-2f1f6a1e0d42";
export const SUB = "0192f0c1-2345-7abc-8def-0123456789ab";
export const SNAPSHOT = 'event: snapshot\ndata: {"retain_seconds":310}\n\n';
export const RESUMED = SNAPSHOT.replace("snapshot", "resumed");
export const LIVE = 'event: live\nid: event-1\ndata: {"at":"2026-11-23T04:08:30.325Z"}\n\n';
export const HEARTBEAT = 'event: heartbeat\nid: event-2\ndata: {"at":"2026-11-23T04:08:31.325Z"}\n\n';
// With LONG_STALENESS the verifier loses the feed only when a test interrupts the feed, however slow the machine is. With SHORT_STALENESS
// a silent feed is soon lost, and introspection may take long, since the machine may be slow.
export const LONG_STALENESS = { maxStalenessMs: 600_000, feedLost: "refuse" };
export const SHORT_STALENESS = { maxStalenessMs: 300, introspectionTimeoutMs: 30_000 };

export const revocation = (data) => `event: revocation\ndata: ${JSON.stringify(data)}\n\n`;
export const LOGOUT = revocation({ kind: "session", account_id: SUB, session_id: SID, reason: "logout", at: "2026-11-23T04:08:30Z" });

export const claimsChange = (version, at = "2026-11-23T04:08:30Z", account = SUB) =>
  `event: claims\ndata: ${JSON.stringify({ account_id: account, claims_version: version, at })}\n\n`;

/** Encodes bytes, a string, or the JSON of another value in base64url. */
export function base64url(value) {
  if (Buffer.isBuffer(value)) return value.toString("base64url");
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return Buffer.from(text).toString("base64url");
}

// One RSA key pair for all tests, since its generation is slow.
const RSA = generateKeyPairSync("rsa", { modulusLength: 2048 });
/** Functions that generate a key pair, by algorithm. */
const KEY_PAIR_GENERATORS = {
  ES256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  EdDSA: () => generateKeyPairSync("ed25519"),
  RS256: () => RSA,
  PS256: () => RSA,
};
// Where the defaults of node:crypto differ from the formats of RFC 7518.
const SIGN_OPTIONS = {
  ES256: { dsaEncoding: "ieee-p1363" },
  PS256: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 },
};

/** A key pair with its algorithm. */
export class SigningKey {
  constructor(alg, pair = KEY_PAIR_GENERATORS[alg]()) {
    this.alg = alg;
    this.publicKey = pair.publicKey;
    this.privateKey = pair.privateKey;
  }

  jwk(kid) {
    return { ...this.publicKey.export({ format: "jwk" }), kid, alg: this.alg, use: "sig", key_ops: ["verify"] };
  }

  /** Signs a header and a payload. A string is signed as it is, another value as JSON. */
  sign(header, payload) {
    const signed = `${base64url(header)}.${base64url(payload)}`;
    const digest = this.alg === "EdDSA" ? null : "sha256"; // Ed25519 hashes by itself
    const signature = sign(digest, Buffer.from(signed), { key: this.privateKey, ...SIGN_OPTIONS[this.alg] });
    return `${signed}.${base64url(signature)}`;
  }
}

/** An issuer whose fields determine its responses; a test may change them at any time. */
export class FakeIssuer {
  /** The published keys, by their `kid`. */
  keys = { one: new SigningKey("ES256") };
  /** Members that replace those of the discovery document. */
  metadata = {};
  /** The events that a new subscriber receives at once; with null the feed answers `feedStatus`. */
  feed = SNAPSHOT + LIVE;
  /** The events that a subscriber with Last-Event-ID receives at once; with null it receives those of `feed`. */
  resumed = null;
  /** The error status of the feed. */
  feedStatus = 503;
  /** The member `active` of introspection responses; with null the endpoint answers 503. */
  active = true;
  /** Whether every request fails: the feed with `feedStatus`, another request with 503. */
  unavailable = false;
  /** Every received request: its path, headers and body. */
  requests = [];
  /** The open responses of the feed. */
  subscribers = new Set();
  verifiers = [];

  /** Starts on a free port until the test ends. */
  static async start(t) {
    const issuer = new FakeIssuer();
    issuer.server = createServer((request, response) => issuer.handle(request, response));
    await new Promise((resolve) => issuer.server.listen(0, "127.0.0.1", resolve));
    issuer.url = `http://127.0.0.1:${issuer.server.address().port}`;
    t.after(async () => {
      for (const verifier of issuer.verifiers) await verifier.close();
      issuer.server.closeAllConnections();
      issuer.server.close();
    });
    return issuer;
  }

  /** A verifier of this issuer's tokens, closed when the test ends. */
  verifier(options = {}) {
    const verifier = createVerifier({ issuer: this.url, audience: "latchkey", clientId: "shop", clientSecret: SECRET, log: () => {}, ...options });
    this.verifiers.push(verifier);
    return verifier;
  }

  /** A verifier whose feed is live. */
  async live(options = {}) {
    const verifier = this.verifier(options);
    if (!(await verifier.waitLive(60_000))) throw new Error("the feed did not become live");
    return verifier;
  }

  /** The number of requests for this path. */
  count(path) {
    return this.requests.filter((request) => request.path === path).length;
  }

  /** The Last-Event-ID of each subscription. */
  lastEventIds() {
    return this.requests.filter(({ path }) => path === "/v1/revocations").map(({ headers }) => headers["last-event-id"]);
  }

  /** The header of a valid token. */
  header(kid = "one") {
    return { alg: this.keys[kid].alg, typ: "at+jwt", kid };
  }

  /** The payload of a valid user token. */
  payload() {
    const now = Math.floor(Date.now() / 1000);
    return {
      iss: this.url, sub: SUB, aud: "latchkey", client_id: "latchkey", iat: now, exp: now + 300, jti: "j", sid: SID,
      auth_time: now - 10, acr: "aal1", amr: ["pwd"], scope: "account",
    };
  }

  /** A signed user token with changed claims; a claim that is undefined is left out. */
  token(claims = {}, header = {}, kid = "one") {
    return this.keys[kid].sign({ ...this.header(kid), ...header }, { ...this.payload(), ...claims });
  }

  /** Sends events to every subscriber. */
  send(events) {
    for (const subscriber of this.subscribers) subscriber.write(events);
  }

  /** Breaks the connections of all subscribers. */
  disconnect() {
    for (const subscriber of this.subscribers) subscriber.destroy();
    this.subscribers.clear();
  }

  async handle(request, response) {
    let body = "";
    for await (const chunk of request) body += chunk;
    this.requests.push({ path: request.url, headers: request.headers, body });
    const isFeed = request.url === "/v1/revocations";
    if (isFeed) {
      const events = "last-event-id" in request.headers && this.resumed !== null ? this.resumed : this.feed;
      if (events !== null && !this.unavailable) {
        response.writeHead(200, { "Content-Type": "text/event-stream" }).write(events);
        this.subscribers.add(response);
        response.on("close", () => this.subscribers.delete(response));
        return;
      }
    }
    const document = this.unavailable ? null : this.document(request.url, body);
    const errorStatus = isFeed ? this.feedStatus : 503;
    response.writeHead(document === null ? errorStatus : 200).end(JSON.stringify(document));
  }

  /** The JSON body for this path, or null for an error. The feed has no such body. */
  document(path, body) {
    switch (path) {
      case "/.well-known/openid-configuration":
        return {
          issuer: this.url,
          jwks_uri: `${this.url}/keys`,
          introspection_endpoint: `${this.url}/introspect`,
          latchkey_revocations_endpoint: `${this.url}/v1/revocations`,
          ...this.metadata,
        };
      case "/keys":
        return { keys: Object.entries(this.keys).map(([kid, key]) => key.jwk(kid)) };
      case "/introspect":
        if (this.active === null || !new URLSearchParams(body).get("token")) return null;
        return { active: this.active };
      default:
        return null;
    }
  }
}

/** Polls until the condition holds; the description names it in the error. The timeout is long, since test machines can be slow. */
export async function until(description, holds) {
  const end = performance.now() + 60_000;
  while (performance.now() < end) {
    if (await holds()) return;
    await sleep(10);
  }
  throw new Error(`timed out waiting until ${description}`);
}

/** Resolves with the arguments of the emitter's next event of this name. */
export const once = (emitter, name) => new Promise((resolve) => emitter.once(name, (...values) => resolve(values)));

/** The outcome of verifying a token: "accepted", or the name of the error. */
export const outcomeOf = (verifier, token) => verifier.verify(token).then(() => "accepted", (error) => error.name);
