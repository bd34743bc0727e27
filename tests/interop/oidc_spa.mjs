// Drives examples/oidc-spa in Chromium through Latchkey's own pages, with the account ada@example.com. Usage: node oidc_spa.mjs ISSUER PAGE
// oidc-client-ts renews access tokens a minute before they expire. The lifetime of the node's access tokens is little longer than that
// minute, so that the test observes a renewal.
import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const [issuer, appUrl] = process.argv.slice(2);
const PASSWORD = "tidal engine verse marmalade";
// Chromium runs as root in a container, and must not send requests of its own.
const ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ARGS.split(" ") });
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
// The responses to the app and to the pages, each as "STATUS METHOD PATH".
const responses = [];
context.on("response", (response) => responses.push(`${response.status()} ${response.request().method()} ${new URL(response.url()).pathname}`));

/** Opens the app in a new tab. */
async function openTab() {
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(String(error)));
  // The app renews its tokens with the refresh token, and not in a hidden frame.
  page.on("frameattached", (frame) => assert.fail(`the app opened a frame: ${frame.url()}`));
  await page.goto(appUrl);
  await page.waitForSelector("#signed-out:not([hidden]), #signed-in:not([hidden])");
  return page;
}
const waitForSignedIn = (page) => page.waitForSelector("#signed-in:not([hidden])");
const waitForSignedOut = (page) => page.waitForSelector("#signed-out:not([hidden])");
const currentUser = (page) => page.evaluate(async () => ({ ...(await globalThis.users.getUser()) }));
/** Waits until the app has new tokens. Call it before what causes them. */
const nextUser = (page) => page.evaluate(() => new Promise((resolve) => globalThis.users.events.addUserLoaded((user) => resolve({ ...user }))));

// sign-in by redirect, with the form and the consent of Latchkey's pages
const page = await openTab();
await waitForSignedOut(page);
await page.click("#sign-in");
await page.waitForSelector("#identifier");
assert.ok(page.url().startsWith(`${issuer}/account/sign-in?request=`), page.url());
await page.fill("#identifier", "ada@example.com");
await page.fill("#password", PASSWORD);
await page.keyboard.press("Enter");
await page.click("button[value=allow]");
await waitForSignedIn(page);
assert.equal(page.url(), `${appUrl}/`, "the app has removed the code from the address");
assert.equal(await page.textContent("#email"), "ada@example.com");
const first = await currentUser(page);
assert.ok(first.access_token && first.refresh_token && first.id_token);
console.log("sign-in: ok");

// userinfo, from the page's own origin
assert.ok(responses.includes("200 GET /oauth2/userinfo"), responses.join("\n"));
assert.equal(first.profile.preferred_username, "ada");
console.log("userinfo: ok");

// silent renewal with the refresh token: by itself before the token expires, and by the button
const renewed = await nextUser(page);
assert.notEqual(renewed.access_token, first.access_token);
assert.notEqual(renewed.refresh_token, first.refresh_token);
assert.equal(renewed.profile.sub, first.profile.sub);
const renewedByButton = nextUser(page);
await page.click("#renew");
assert.equal((await renewedByButton).profile.sub, first.profile.sub);
assert.equal(await page.textContent("#message"), "", "no error is shown");
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
await waitForSignedIn(page);
const other = await openTab();
await waitForSignedOut(other);
await other.click("#sign-in");
await waitForSignedIn(other);
console.log("single sign-on: ok");

// the account page opens the app, which signs in by itself
const account = await context.newPage();
await account.goto(`${issuer}/account/devices`);
await account.click("a[aria-label='Open The notebook'] >> nth=0");
await account.waitForURL(`${appUrl}/`);
await waitForSignedIn(account);
console.log("opened from the account page: ok");

// a sign-out by redirect ends the browser's session, and with it the app's sessions in other tabs
await page.click("#sign-out");
await page.waitForURL(`${appUrl}/`);
await waitForSignedOut(page);
assert.ok(responses.includes("303 GET /oauth2/logout"), responses.join("\n"));
// The renewal in the other tab is refused.
await other.click("#renew");
await waitForSignedOut(other);
assert.equal(await other.textContent("#message"), "You were signed out.");
// Without the browser's session, a new sign-in shows the form again.
await page.click("#sign-in");
await page.waitForSelector("#identifier");
console.log("sign-out: ok");
await browser.close();
