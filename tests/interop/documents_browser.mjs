// Runs the code that docs/quickstart-browser.md, docs/passkeys.md and clients/browser/README.md print, in Chromium with a virtual
// authenticator, against a running node with the accounts ada, bob (an admin without the second factor that admins need) and carol.
// Only the node's address differs. Exits with an error at the first failed assertion.
// Usage: node documents_browser.mjs API PAGE REPOSITORY
//   API         the URL of the node
//   PAGE        the URL of the page of examples/browser
//   REPOSITORY  the path of the checkout
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { chromium } from "playwright-core";

const [api, pageUrl, repository] = process.argv.slice(2);
const PASSWORD = "tidal engine verse marmalade";
// Chromium runs as root in a container, and must not send requests of its own.
const CHROMIUM_ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: CHROMIUM_ARGS.split(" ") });
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
// the page is loaded without its own code: `open` adds the code of a document
await context.route(`${pageUrl}/app.js`, (route) => route.fulfill({ contentType: "text/javascript", body: "" }));
const page = await context.newPage();
page.on("pageerror", (error) => assert.fail(`page: ${error}`));
/** The method, path and status of each response since the page was opened. */
let answers = [];
page.on("response", (response) => answers.push(`${response.request().method()} ${new URL(response.url()).pathname} ${response.status()}`));
const cdp = await context.newCDPSession(page);
await cdp.send("WebAuthn.enable", { enableUI: false });
const authenticator = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true };
await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { ...authenticator, automaticPresenceSimulation: true } });

/** The JavaScript blocks of a document, with the node's address. */
function blocks(document) {
  const text = readFileSync(join(repository, document), "utf8");
  const found = text.split("```js\n").slice(1).map((rest) => rest.split("\n```")[0]);
  return found.map((block) => block.replaceAll("https://auth.example.com", api).replaceAll("http://localhost:8080", api));
}

/** Opens the page with this code as its module. */
async function open(code) {
  answers = [];
  await page.goto(pageUrl);
  await page.addScriptTag({ type: "module", content: `${code}\nwindow.ready = true;` });
  await page.waitForFunction(() => window.ready);
}

/** Calls a function that the page's code has assigned to `window.app`. */
const call = (name, ...args) => page.evaluate(([name, args]) => window.app[name](...args), [name, args]);

/** Asserts that the page received these responses since it was opened. */
function assertAnswered(...expected) {
  for (const answer of expected) assert.ok(answers.includes(answer), `no ${answer} in ${answers.join()}`);
}

/** Calls the API from outside of the page. */
async function post(path, body, access) {
  const headers = { "Content-Type": "application/json", ...(access && { Authorization: `Bearer ${access}` }) };
  return (await fetch(`${api}${path}`, { method: "POST", headers, body: JSON.stringify(body) })).json();
}
const login = (name) => post("/v1/login", { identifier: `${name}@example.com`, password: PASSWORD });
const hasCookie = async () => (await context.cookies(api)).some(({ name }) => name === "__Host-latchkey");

// docs/quickstart-browser.md: sign in, reload, refresh, sign out
const [signIn, refresh, request, signOut] = blocks("docs/quickstart-browser.md");
const quickstart = `${signIn}\n${refresh}\n${request}
window.app = {
  access: () => access,
  signIn: async (...args) => { access = await signIn(...args); },
  call: async (url) => (await call(url)).status,
  callAfterExpiry: (url) => { access = "expired"; return Promise.all([call(url), call(url)].map(async (response) => (await response).status)); },
  signOut: async () => { ${signOut}\n },
};`;
await open(quickstart);
assert.equal(await call("access"), null);
await assert.rejects(call("signIn", "ada@example.com", "wrong"));
await call("signIn", "ada@example.com", PASSWORD);
assert.equal(await call("call", `${api}/v1/me`), 200);
await open(quickstart); // after a reload, the cookie signs in
assert.equal(await call("call", `${api}/v1/me`), 200);
// two calls at the same time, each of which finds that the token has expired
assert.deepEqual(await call("callAfterExpiry", `${api}/v1/me`), [200, 200]);
await call("signOut");
await open(quickstart); // the cookie does not sign in any more
assert.equal(await call("access"), null);
console.log("quick start: ok");

// clients/browser/README.md: the program, which signs in, calls an API and signs out; the second step of a sign-in; the step-up
const [program, secondStep, stepUp] = blocks("clients/browser/README.md");
await open(program);
// the server of the page has no /api/orders
assertAnswered("POST /v1/login 200", "GET /api/orders 404", "POST /v1/logout 204");
const { access_token: access } = await login("carol");
const { secret } = await post("/v1/me/factors/totp", { label: "Phone" }, access);
/**
 * Carol's TOTP code (RFC 6238) of a time step: -1 for the previous step, 0 for the current and 1 for the next. A node accepts the codes
 * of these three steps, each once, so each call below names another step.
 * Waits for the end of a step that ends within two seconds, so that the step does not change before the node has received the code.
 */
async function totpCode(step) {
  while (Date.now() % 30_000 >= 28_000) await page.waitForTimeout(100);
  // base32 (RFC 4648, section 6)
  const bits = [...secret].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + step));
  const mac = createHmac("sha1", key).update(counter).digest();
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
await post("/v1/me/factors/totp/confirm", { code: await totpCode(-1) }, access);
await open(`import { LatchkeyClient } from "latchkey-browser";
const auth = new LatchkeyClient({ baseUrl: "${api}" });
window.app = {
  signIn: async (identifier, password, code) => { ${secondStep}\n },
  stepUp: async (code) => { ${stepUp}\n },
  signOut: () => auth.signOut(),
};`);
await call("signIn", "carol@example.com", PASSWORD, await totpCode(0));
await call("stepUp", await totpCode(1));
await call("signOut");
assertAnswered("POST /v1/login/second-factor 200", "POST /v1/me/reauthenticate 200");
console.log("client: ok");

// docs/passkeys.md: registration, also as a required factor, sign-in, and the second step of the client
const [registration, enrolment, passkeySignIn, passkeyStep] = blocks("docs/passkeys.md");
// the block has two paragraphs: the function `post`, and the calls
const [helper, add] = registration.split("\n\n");
const passkeys = `import { LatchkeyClient } from "latchkey-browser";
let accessToken;
${helper}
window.app = {
  add: async (access) => { accessToken = access; ${add}\n return { passkey, tokens }; },
  enrol: async (identifier, password) => {
    const { challenge } = await post("/v1/login", { identifier, password });
    ${enrolment}
    return tokens;
  },
  signIn: async () => { ${passkeySignIn}\n return tokens; },
  signInWithPassword: async (identifier, password) => {
    const auth = new LatchkeyClient({ baseUrl: "${api}" });
    ${passkeyStep}
    return auth.me();
  },
};`;
await open(passkeys);
const added = await call("add", (await login("ada")).access_token);
assert.equal(added.passkey.name, "Ada's phone");
assert.ok(added.tokens.access_token);
await open(passkeys);
assert.equal(await hasCookie(), false);
assert.ok((await call("signIn")).access_token);
assert.equal(await hasCookie(), true);
await context.clearCookies(); // ends the session in the browser, so that the next sign-in is a new one
await open(passkeys);
assert.equal((await call("signInWithPassword", "ada@example.com", PASSWORD)).email, "ada@example.com");
await open(passkeys);
const enrolled = await call("enrol", "bob@example.com", PASSWORD);
assert.ok(enrolled.access_token);
assert.equal(enrolled.recovery_codes.length, 10);
console.log("passkeys: ok");

await browser.close();
