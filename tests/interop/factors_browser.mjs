// Drives the second factors of the page of examples/browser in Chromium, against a running node. Usage: node factors_browser.mjs API PAGE
// Needs the accounts ada@example.com, eve@example.com and bob@example.com; eve and bob must have a second factor. Exits with an error at
// the first failed assertion. With STEP_UP set, it prints "later" and waits for a line. Before the caller sends the line, it advances the
// node's clock by ten minutes.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createInterface } from "node:readline/promises";

import { chromium } from "playwright-core";

const [api, pageUrl] = process.argv.slice(2);
const PASSWORD = "tidal engine verse marmalade";
// Chromium runs as root in a container, and must not send requests of its own.
const ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ARGS.split(" ") });
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
const page = await context.newPage();
page.on("pageerror", (error) => assert.fail(`page: ${error}`));

/** The claims of the newest access token. `accountShown` waits until they are read. */
let claims;
let reading = Promise.resolve();
async function readClaims(response) {
  const body = await response.json().catch(() => ({}));
  const token = body?.access_token ?? body?.tokens?.access_token;
  if (token) claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
}
page.on("response", (response) => (reading = reading.then(() => readClaims(response))));
async function accountShown() {
  await shown("account");
  await reading;
}

const shown = (id) => page.waitForSelector(`#${id}:not([hidden])`);
const says = (text) => page.waitForFunction((text) => document.getElementById("message").textContent.includes(text), text);
/** The recovery codes that the page shows. */
async function recoveryCodes() {
  await says("recovery codes");
  return (await page.textContent("#message")).split(": ")[1].trim().split(" ");
}
/** The code that an authenticator app shows at the node's time, or `seconds` later. */
const code = (secret, seconds = 0) =>
  execFileSync("oathtool", ["--totp", "--base32", "--now", `@${claims.iat + seconds}`, secret], { encoding: "utf8" }).trim();
async function submitPassword(name) {
  await page.fill("#sign-in [name=identifier]", `${name}@example.com`);
  await page.fill("#sign-in [name=password]", PASSWORD);
  await page.click("[value=sign-in]");
}
async function confirmTotp(secret, digits) {
  await page.fill("#totp [name=code]", digits ?? code(secret));
  await page.click("#totp button");
}
async function secondFactor(method, digits) {
  await shown("second-factor");
  await page.selectOption("#second-factor [name=method]", method);
  await page.fill("#second-factor [name=code]", digits);
  await page.click("#by-code button:not([type=button])");
}
async function signOut() {
  await page.click("#sign-out");
  await shown("sign-in");
}
/** The secret of the authenticator app that the page sets up. */
const newTotpSecret = async () => {
  await shown("totp");
  await page.waitForFunction(() => document.getElementById("totp-secret").textContent.length === 32);
  assert.ok(await page.evaluate(() => document.getElementById("totp-qr").decode().then(() => true)), "the QR code is an image");
  return page.textContent("#totp-secret");
};

await page.goto(`${pageUrl}/?api=${encodeURIComponent(api)}`);
await shown("sign-in");

// an authenticator app is added, after a wrong code
await submitPassword("ada");
await accountShown();
await page.click("#add-totp");
const secret = await newTotpSecret();
await confirmTotp(secret, "000000");
await says("wrong");
await confirmTotp(secret);
const codes = await recoveryCodes();
assert.equal(new Set(codes).size, 10, codes.join(" ")); // ten different codes
await page.locator("#totps li").waitFor();
await reading;
assert.equal(claims.acr, "aal2");
console.log("enrolment: ok");

// the next sign-in needs the next code of the app
await signOut();
await submitPassword("ada");
await secondFactor("totp", "000000");
await says("wrong");
await secondFactor("totp", code(secret, 30)); // the code of the next 30 seconds: the enrolment has used the current one
await accountShown();
assert.equal(claims.acr, "aal2");
assert.ok(claims.amr.includes("otp"), claims.amr.join());
console.log("sign-in: ok");

// a recovery code works once in place of the app's code
for (const works of [true, false]) {
  await signOut();
  await submitPassword("ada");
  await secondFactor("recovery_code", codes[0]);
  if (works) await accountShown();
  else await says("wrong");
}
await secondFactor("recovery_code", codes[1]);
await accountShown();
console.log("recovery: ok");

// ten minutes later, a change of the account needs a step-up, after which the page repeats the change by itself
if (process.env.STEP_UP) {
  const lines = createInterface({ input: process.stdin });
  console.log("later");
  await lines[Symbol.asyncIterator]().next();
  lines.close();
  await page.click("#renew-codes"); // the change
  await shown("step-up");
  await reading;
  const before = claims.auth_time;
  assert.ok(claims.iat - before >= 600, `${claims.iat} ${before}`);
  const stepUp = async (proof) => {
    await page.selectOption("#step-up [name=method]", "totp");
    await page.fill("#step-up [name=proof]", proof);
    await page.click("#step-up button");
  };
  await stepUp("000000");
  await says("wrong");
  await stepUp(code(secret));
  const renewed = await recoveryCodes();
  assert.ok(!renewed.includes(codes[2]), renewed.join(" "));
  await reading;
  assert.ok(claims.auth_time > before && claims.acr === "aal2", JSON.stringify(claims));
  await page.waitForSelector("#step-up", { state: "hidden" });
  console.log("step-up: ok");
}

// an account that must have a second factor sets one up during the sign-in: an authenticator app
await signOut();
await submitPassword("eve");
await shown("enrol");
await page.click("#enrol-totp");
await confirmTotp(await newTotpSecret());
assert.equal((await recoveryCodes()).length, 10);
await accountShown();
assert.equal(claims.acr, "aal2");
await signOut();

// or a passkey
const cdp = await context.newCDPSession(page);
await cdp.send("WebAuthn.enable", { enableUI: false });
await cdp.send("WebAuthn.addVirtualAuthenticator", {
  options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
});
await submitPassword("bob");
await shown("enrol");
await page.click("#enrol-passkey");
await accountShown();
assert.equal((await recoveryCodes()).length, 10);
await page.locator("#passkeys li").waitFor();
await reading;
assert.ok(claims.acr === "aal2" && claims.amr.includes("pwd") && claims.amr.includes("user"), JSON.stringify(claims));
console.log("required: ok");
await browser.close();
