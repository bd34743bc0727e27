// Drives examples/oidc-spa in Chromium through Latchkey's own pages, with the account ada@example.com. Usage: node oidc_spa.mjs ISSUER PAGE
// oidc-client-ts renews access tokens a minute before they expire. The lifetime of the node's access tokens is little longer than that
// minute, so that the test observes a renewal.
import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const [issuer, app] = process.argv.slice(2);
const PASSWORD = "tidal engine verse marmalade";
// Chromium runs as root in a container, and must not send requests of its own.
const ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ARGS.split(" ") });
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
const calls = [];
context.on("response", (response) => calls.push(`${response.status()} ${response.request().method()} ${new URL(response.url()).pathname}`));

/** Opens the app in a tab. */
async function tab() {
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(String(error)));
  page.on("frameattached", (frame) => assert.fail(`the app opened a frame: ${frame.url()}`));
  await page.goto(app);
  await page.waitForSelector("#signed-out:not([hidden]), #signed-in:not([hidden])");
  return page;
}
const signedIn = (page) => page.waitForSelector("#signed-in:not([hidden])");
const signedOut = (page) => page.waitForSelector("#signed-out:not([hidden])");
const user = (page) => page.evaluate(async () => ({ ...(await globalThis.users.getUser()) }));
const nextUser = (page) => page.evaluate(() => new Promise((resolve) => globalThis.users.events.addUserLoaded((user) => resolve({ ...user }))));

// sign-in by redirect, with the form and the consent of Latchkey's pages
const page = await tab();
await signedOut(page);
await page.click("#sign-in");
await page.waitForSelector("#identifier");
assert.ok(page.url().startsWith(`${issuer}/account/sign-in?request=`), page.url());
await page.fill("#identifier", "ada@example.com");
await page.fill("#password", PASSWORD);
await page.keyboard.press("Enter");
await page.click("button[value=allow]");
await signedIn(page);
assert.equal(page.url(), `${app}/`, "the code is not in the address");
assert.equal(await page.textContent("#email"), "ada@example.com");
const first = await user(page);
assert.ok(first.access_token && first.refresh_token && first.id_token);
console.log("sign-in: ok");

// userinfo, from the page's own origin
assert.ok(calls.includes("200 GET /oauth2/userinfo"), calls.join("\n"));
assert.equal(first.profile.preferred_username, "ada");
console.log("userinfo: ok");

// silent renewal with the refresh token: by itself before the token expires, and by the button
const renewed = await nextUser(page);
assert.notEqual(renewed.access_token, first.access_token);
assert.notEqual(renewed.refresh_token, first.refresh_token);
assert.equal(renewed.profile.sub, first.profile.sub);
const loaded = nextUser(page);
await page.click("#renew");
assert.equal((await loaded).profile.sub, first.profile.sub);
assert.equal(await page.textContent("#message"), "");
console.log("renewal: ok");

// a renewal that fails without a network is repeated once the browser is online again
await context.setOffline(true);
await page.click("#renew");
await page.waitForFunction(() => document.getElementById("message").textContent !== "");
const repeated = nextUser(page);
await context.setOffline(false);
assert.equal((await repeated).profile.sub, first.profile.sub);
assert.equal(await page.textContent("#message"), "");
console.log("renewal after an outage: ok");

// the user stays signed in after a reload, and another tab signs in without a form
await page.reload();
await signedIn(page);
const other = await tab();
await signedOut(other);
await other.click("#sign-in");
await signedIn(other);
console.log("single sign-on: ok");

// the account page opens the app, which signs in by itself
const account = await context.newPage();
await account.goto(`${issuer}/account/devices`);
await account.click("a[aria-label='Open The notebook'] >> nth=0");
await account.waitForURL(`${app}/`);
await signedIn(account);
console.log("opened from the account page: ok");

// a sign-out by redirect ends the browser's session, and with it the app's sessions in other tabs
await page.click("#sign-out");
await page.waitForURL(`${app}/`);
await signedOut(page);
assert.ok(calls.some((call) => /^303 GET \/oauth2\/logout$/.test(call)), calls.join("\n"));
await other.click("#renew");
await signedOut(other);
assert.equal(await other.textContent("#message"), "You were signed out.");
await page.click("#sign-in");
await page.waitForSelector("#identifier");
console.log("sign-out: ok");
await browser.close();
