// Drives the second factors of the page of examples/browser in Chromium, against a running node. Usage: node factors_browser.mjs API PAGE
// Needs the accounts ada@example.com, eve@example.com and bob@example.com; eve and bob must be required
// to have a second factor. Exits with an error at the first failed assertion. With STEP_UP set, it prints "later" and waits for a line. Before the caller sends
// the line, it advances the node's clock by ten minutes.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createInterface } from "node:readline/promises";

import { chromium } from "playwright-core";

const [api, pageUrl] = process.argv.slice(2);
const PASSWORD = "tidal engine verse marmalade";
// It is right once in a million runs.
const WRONG_CODE = "000000";
// Chromium runs as root in a container, and must not send requests of its own.
const CHROMIUM_ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: CHROMIUM_ARGS.split(" ") });
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
const page = await context.newPage();
page.on("pageerror", (error) => assert.fail(`page: ${error}`));

/** The claims of the newest access token. */
let claims;
/** Ends when all responses so far are read. Awaited before `claims` is used. */
let reading = Promise.resolve();
async function readClaims(response) {
  const body = await response.json().catch(() => ({})); // some responses have no JSON
  const token = body?.access_token ?? body?.tokens?.access_token;
  if (token) claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
}
page.on("response", (response) => (reading = reading.then(() => readClaims(response))));
async function waitForAccount() {
  await waitForVisible("account");
  await reading;
}

const waitForVisible = (id) => page.waitForSelector(`#${id}:not([hidden])`);
const waitForMessage = (text) => page.waitForFunction((text) => document.getElementById("message").textContent.includes(text), text);
/** The recovery codes that the page shows: words after a colon. */
async function recoveryCodes() {
  await waitForMessage("recovery codes");
  return (await page.textContent("#message")).split(": ")[1].trim().split(" ");
}
/** The code that an authenticator app shows when the newest access token was issued by the node's clock, or `secondsLater`. */
const totpCode = (secret, secondsLater = 0) =>
  execFileSync("oathtool", ["--totp", "--base32", "--now", `@${claims.iat + secondsLater}`, secret], { encoding: "utf8" }).trim();
async function submitPassword(name) {
  await page.fill("#sign-in [name=identifier]", `${name}@example.com`);
  await page.fill("#sign-in [name=password]", PASSWORD);
  await page.click("[value=sign-in]");
}
async function confirmTotp(code) {
  await page.fill("#totp [name=code]", code);
  await page.click("#totp button");
}
async function submitSecondFactor(method, code) {
  await waitForVisible("second-factor");
  await page.selectOption("#second-factor [name=method]", method);
  await page.fill("#second-factor [name=code]", code);
  await page.click("#by-code button:not([type=button])");
}
async function signOut() {
  await page.click("#sign-out");
  await waitForVisible("sign-in");
}
/** The secret of the authenticator app that the page sets up. */
const newTotpSecret = async () => {
  await waitForVisible("totp");
  await page.waitForFunction(() => document.getElementById("totp-secret").textContent.length === 32);
  assert.ok(await page.evaluate(() => document.getElementById("totp-qr").decode().then(() => true)), "the QR code is an image");
  return page.textContent("#totp-secret");
};

await page.goto(`${pageUrl}/?api=${encodeURIComponent(api)}`);
await waitForVisible("sign-in");

// an authenticator app is added, after a wrong code
await submitPassword("ada");
await waitForAccount();
await page.click("#add-totp");
const secret = await newTotpSecret();
await confirmTotp(WRONG_CODE);
await waitForMessage("wrong");
await confirmTotp(totpCode(secret));
const codes = await recoveryCodes();
assert.equal(new Set(codes).size, 10, `ten different codes: ${codes.join(" ")}`);
await page.locator("#totps li").waitFor();
await reading;
assert.equal(claims.acr, "aal2");
console.log("enrolment: ok");

// the next sign-in needs the next code of the app
await signOut();
await submitPassword("ada");
await submitSecondFactor("totp", WRONG_CODE);
await waitForMessage("wrong");
await submitSecondFactor("totp", totpCode(secret, 30)); // the code of the next 30 seconds: the enrolment has used the current one
await waitForAccount();
assert.equal(claims.acr, "aal2");
assert.ok(claims.amr.includes("otp"), claims.amr.join());
console.log("sign-in: ok");

// a recovery code works once in place of the app's code
for (const works of [true, false]) {
  await signOut();
  await submitPassword("ada");
  await submitSecondFactor("recovery_code", codes[0]);
  if (works) await waitForAccount();
  else await waitForMessage("wrong");
}
await submitSecondFactor("recovery_code", codes[1]);
await waitForAccount();
console.log("recovery: ok");

// ten minutes later, a change of the account needs a step-up, after which the page repeats the change by itself
if (process.env.STEP_UP) {
  const lines = createInterface({ input: process.stdin });
  console.log("later"); // the caller advances the clock, and then sends a line
  await lines[Symbol.asyncIterator]().next();
  lines.close();
  await page.click("#renew-codes"); // the change
  await waitForVisible("step-up");
  await reading;
  const before = claims.auth_time;
  assert.ok(claims.iat - before >= 600, `${claims.iat} ${before}`);
  const stepUp = async (proof) => {
    await page.selectOption("#step-up [name=method]", "totp");
    await page.fill("#step-up [name=proof]", proof);
    await page.click("#step-up button");
  };
  await stepUp(WRONG_CODE);
  await waitForMessage("wrong");
  await stepUp(totpCode(secret));
  const renewed = await recoveryCodes();
  assert.ok(!renewed.includes(codes[2]), `an unused former code is replaced: ${renewed.join(" ")}`);
  await reading;
  assert.ok(claims.auth_time > before && claims.acr === "aal2", JSON.stringify(claims));
  await page.waitForSelector("#step-up", { state: "hidden" });
  console.log("step-up: ok");
}

// an account that must have a second factor sets one up during the sign-in: an authenticator app
await signOut();
await submitPassword("eve");
await waitForVisible("enrol");
await page.click("#enrol-totp");
await confirmTotp(totpCode(await newTotpSecret()));
assert.equal((await recoveryCodes()).length, 10);
await waitForAccount();
assert.equal(claims.acr, "aal2");
await signOut();

// or a passkey
const cdp = await context.newCDPSession(page);
await cdp.send("WebAuthn.enable", { enableUI: false });
await cdp.send("WebAuthn.addVirtualAuthenticator", {
  options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
});
await submitPassword("bob");
await waitForVisible("enrol");
await page.click("#enrol-passkey");
await waitForAccount();
assert.equal((await recoveryCodes()).length, 10);
await page.locator("#passkeys li").waitFor();
await reading;
assert.equal(claims.acr, "aal2");
assert.ok(claims.amr.includes("pwd") && claims.amr.includes("user"), claims.amr.join()); // "user": a person confirmed the passkey
console.log("required: ok");
await browser.close();
