// Drives the passkeys of the page of examples/browser in Chromium with virtual authenticators, against a running node, with the account
// ada@example.com. Exits with an error at the first failed assertion. Usage: node passkeys_browser.mjs API PAGE
import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const [api, pageUrl] = process.argv.slice(2);
const PASSWORD = "tidal engine verse marmalade";
// Chromium runs as root in a container, and must not send requests of its own.
const CHROMIUM_ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: CHROMIUM_ARGS.split(" ") });

const context = await browser.newContext();
context.setDefaultTimeout(30_000);
const page = await context.newPage();
page.on("pageerror", (error) => assert.fail(`page: ${error}`));
const cdp = await context.newCDPSession(page);
await cdp.send("WebAuthn.enable", { enableUI: false });

/**
 * Adds a virtual authenticator. It waits for its user until `touch` is called. `resident`: it can store passkeys itself. `verified`: it
 * verifies its user, as by a fingerprint.
 */
async function plugIn({ transport = "internal", resident = true, verified = true } = {}) {
  const options = {
    protocol: "ctap2",
    transport,
    hasResidentKey: resident,
    hasUserVerification: verified,
    isUserVerified: verified,
    automaticPresenceSimulation: false,
  };
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options });
  return {
    /** Sets whether the user touches the authenticator whenever it asks. */
    touch: (enabled = true) => cdp.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId, enabled }),
    credentials: async () => (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials,
    unplug: () => cdp.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId }),
  };
}

const open = () => page.goto(`${pageUrl}/?api=${encodeURIComponent(api)}`);
const shown = (id) => page.waitForSelector(`#${id}:not([hidden])`);
const row = (name) => page.locator("#passkeys li", { hasText: name });
async function submitPassword() {
  await page.fill("[name=identifier]", "ada@example.com");
  await page.fill("[name=password]", PASSWORD);
  await page.click("[value=sign-in]");
}
async function add(name) {
  await page.fill("#add-passkey [name=name]", name);
  await page.click("#add-passkey button");
  await row(name).waitFor();
}
async function remove(name) {
  await row(name).locator("button").click();
  await row(name).waitFor({ state: "detached" });
}
async function signOut() {
  await page.click("#sign-out");
  await shown("sign-in");
}
/**
 * Signs out while nobody touches the authenticator: otherwise the conditional request of the sign-in form, which follows, would sign the
 * user in again.
 */
async function signOutUntouched(authenticator) {
  await authenticator.touch(false);
  await signOut();
}
/** Runs an action that signs in, and returns the claims of the access token. */
async function signIn(action) {
  const isSignIn = (response) => /\/v1\/login(\/passkey|\/second-factor)?$/.test(new URL(response.url()).pathname) && response.ok();
  const signedIn = page.waitForResponse(isSignIn);
  await action();
  const { access_token: token } = await (await signedIn).json();
  await shown("account");
  return JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
}

// The page's conditional request may get the passkey before the click. The button is hidden then, and the user is signed in as well.
const usePasskey = () => page.click("#use-passkey", { timeout: 5000 }).catch(() => undefined);

// a passkey is registered after a sign-in by password, and used in the browser's dialog
const phone = await plugIn();
await open();
await shown("sign-in");
await signIn(submitPassword);
await phone.touch();
await add("Phone");
assert.equal((await phone.credentials())[0].isResidentCredential, true);
await signOutUntouched(phone);
await phone.touch();
let claims = await signIn(usePasskey);
assert.equal(claims.acr, "aal2");
assert.ok(claims.amr.includes("user") && claims.amr.includes("mfa"), claims.amr.join());
console.log("dialog: ok");

// the browser offers the passkey in the field of the username (conditional UI). The page that signed out must be left first, so that the
// request is that of the page that is opened next
await signOutUntouched(phone);
await page.goto("about:blank");
await phone.touch();
claims = await signIn(open);
assert.equal(claims.acr, "aal2");
console.log("conditional: ok");

// a second device has a passkey of its own
await phone.touch(false);
const key = await plugIn({ transport: "usb" });
await key.touch();
await add("Key");
assert.equal((await key.credentials()).length, 1);
await signOutUntouched(key);
await key.touch();
await signIn(usePasskey);
await key.unplug();
await signOut();
await phone.touch();
await signIn(usePasskey);
console.log("two devices: ok");

// the passkey is the second factor of a sign-in by password
await signOutUntouched(phone);
await submitPassword();
await shown("second-factor");
await page.click("#cancel");
await shown("sign-in");
await submitPassword();
await shown("second-factor");
await phone.touch();
claims = await signIn(() => page.click("#confirm-passkey"));
assert.equal(claims.acr, "aal2");
assert.ok(claims.amr.includes("pwd") && claims.amr.includes("mfa"), claims.amr.join());
console.log("second step: ok");

// a removed passkey is refused, although its authenticator still has it
await remove("Key");
await remove("Phone");
await signOutUntouched(phone);
await phone.touch();
await page.click("#use-passkey");
await page.waitForFunction(() => document.getElementById("message").textContent.includes("not accepted"));
await phone.unplug();
console.log("removed: ok");

// a security key that stores no credentials and does not verify its user can only be a second factor
const plain = await plugIn({ transport: "usb", resident: false, verified: false });
await page.reload();
await shown("sign-in");
await signIn(submitPassword);
await plain.touch();
await add("Plain key");
assert.equal((await plain.credentials())[0].isResidentCredential, false);
await signOut();
await submitPassword();
await shown("second-factor");
claims = await signIn(() => page.click("#confirm-passkey"));
assert.equal(claims.acr, "aal2");
assert.ok(claims.amr.includes("pwd"), claims.amr.join());
await remove("Plain key");
await signOut();
console.log("plain key: ok");
await browser.close();
