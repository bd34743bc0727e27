// The journey of docs/openid-connect.md in Chromium. Usage: node oidc_app_journey.mjs ISSUER APP MAILS [SCREENSHOTS]
// ISSUER is the URL of a service that runs as `make run` starts it, APP the URL of examples/oidc-express, MAILS the folder of the mails.
// SCREENSHOTS is a folder for screenshots.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

const [issuer, app, mails, screenshots] = process.argv.slice(2);
// Chromium runs as root in a container (the first three arguments), and must not send requests of its own.
const ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";
const EMAIL = "ada@example.com";
const PASSWORD = "tidal engine verse marmalade";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ARGS.split(" ") });
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
// Errors of the pages and requests to other hosts. The last check of this file requires that there are none.
const problems = [];
context.on("weberror", (error) => problems.push(String(error.error())));
context.on("console", (message) => message.type() === "error" && problems.push(message.text()));
context.on("request", (request) => {
  const url = request.url();
  const isOwn = [`${issuer}/`, `${app}/`, "data:"].some((prefix) => url.startsWith(prefix));
  if (!isOwn) problems.push(`third party: ${url}`);
});
const page = await context.newPage();
let shots = 0;
/** Takes a screenshot of a tab, if a folder for screenshots is given. */
const shoot = async (tab, name) => {
  if (!screenshots) return;
  shots += 1;
  await tab.screenshot({ path: path.join(screenshots, `${shots}-${name}.png`), fullPage: true });
};
const heading = () => page.textContent("h1");
const submit = async (selector = "main form button[type=submit]") => {
  await Promise.all([page.waitForNavigation(), page.click(selector)]);
};

/** Waits for the first mail with this template, and returns its link. */
async function mailedLink(template) {
  for (;;) {
    const files = fs.existsSync(mails) ? fs.readdirSync(mails).filter((file) => file.endsWith(`.${template}.eml`)) : [];
    if (files.length > 0) {
      // decodes quoted-printable: removes soft line breaks, and restores "="
      const text = fs.readFileSync(path.join(mails, files[0]), "utf8").replace(/=\r\n/g, "").replace(/=3D/g, "=");
      return text.match(/https?:\/\/[^\s"]+#token=[\w-]+/)[0];
    }
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
}

// register
await page.goto(`${issuer}/account`);
await page.click("text=Create one");
await page.fill("#email", EMAIL);
await page.fill("#password", PASSWORD);
await submit();
assert.equal(await heading(), "Profile");
console.log("registered: ok");

// verify the address with the mail in the data folder
await page.click("nav >> text=E-mail address");
await submit("main .row form button[type=submit]");
await page.goto(await mailedLink("verify_address"));
await submit();
assert.equal(await heading(), "Address confirmed");
await shoot(page, "verified");
console.log("verified: ok");

// add a passkey
const devtools = await context.newCDPSession(page);
await devtools.send("WebAuthn.enable");
const options = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true };
const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", { options });
const setPresence = (enabled) => devtools.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId, enabled });
await page.goto(`${issuer}/account/security`);
await submit("text=Add a passkey");
await page.fill("#name", "My laptop");
await Promise.all([page.waitForNavigation(), page.click("text=Create passkey")]);
assert.equal(await heading(), "Your recovery codes");
await page.click("text=I have saved them");
await page.waitForSelector("text=My laptop");
await shoot(page, "passkey");
// The user signs out. Without presence, Chromium does not sign the user in with the passkey before the screenshot of the next sign-in page.
await setPresence(false);
await submit("header form button");
assert.equal(await heading(), "You are signed out");
console.log("passkey: ok");

// sign in to the app with the passkey: the browser offers it in the first field, or the user presses the button
await page.goto(app);
await page.waitForSelector("text=You are not signed in.");
await page.click("#sign-in");
// the sign-in page of Latchkey, which names the app
await page.waitForSelector("#identifier");
await page.waitForSelector("text=The store");
await shoot(page, "sign-in");
await setPresence(true);
// The button is gone if the browser has offered the passkey in the first field.
await page.click("text=Sign in with a passkey", { timeout: 5000 }).catch(() => {});
await page.waitForSelector("#user");
assert.match(await page.textContent("#user"), /ada@example\.com/);
assert.equal(page.url(), `${app}/`);
await shoot(page, "app");
console.log("signed in: ok");

// see the app in the list of apps, and open it from there
const account = await context.newPage();
await account.goto(`${issuer}/account/devices`);
await account.waitForSelector("strong:has-text('The store')");
await shoot(account, "apps");
await page.goto("about:blank");
await account.click("a[aria-label='Open The store']");
await account.waitForSelector("#user");
assert.equal(account.url(), `${app}/`);
console.log("opened: ok");

// end the app's session in the list of apps: the open page of the app shows at once that the user is signed out
await account.goto(`${issuer}/account/devices`);
assert.equal(await account.locator("button[aria-label='Sign out: The store']").count(), 1);
await page.goto(app);
await page.waitForSelector("#user");
// The app's page must change without a reload.
const signedOut = page.waitForSelector("text=You are not signed in.");
await Promise.all([account.waitForNavigation(), account.click("button[aria-label='Sign out: The store']")]);
await signedOut;
await page.reload();
await page.waitForSelector("text=You are not signed in.");
assert.equal(await account.locator("strong:has-text('The store')").count(), 0);
await shoot(page, "app-signed-out");
await shoot(account, "apps-ended");
console.log("ended: ok");

// a sign-out from the app also ends the session of Latchkey's pages, with which the browser signs in to the app without a form
await page.click("#sign-in");
await page.waitForSelector("#user");
await page.click("text=Sign out");
await page.waitForSelector("text=You are not signed in.");
// the account page asks for a sign-in again
await account.goto(`${issuer}/account`);
await account.waitForSelector("#identifier");
console.log("signed out: ok");
assert.deepEqual(problems, []);
await browser.close();
