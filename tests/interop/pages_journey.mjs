// Uses the pages in Chromium as a user does. Usage: node pages_journey.mjs BASE MAILS NOW
// BASE is the URL of the service, MAILS the folder of its mails, NOW its time in seconds since the Unix epoch.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

const [base, mails, now] = process.argv.slice(2);
// Chromium runs as root in a container, and must not send requests of its own.
const ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";
const EMAIL = "ada@example.com";
const PASSWORD = "tidal engine verse marmalade";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ARGS.split(" ") });
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
const page = await context.newPage();
const problems = [];
page.on("console", (message) => {
  // Chromium also reports refused forms (422) as errors.
  if (message.type() === "error" && !message.text().includes("status of 4")) problems.push(`${page.url()}: ${message.text()}`);
});
page.on("pageerror", (error) => problems.push(`${page.url()}: ${error}`));
page.on("request", (request) => {
  if (!request.url().startsWith(base) && !request.url().startsWith("data:")) problems.push(`third party: ${request.url()}`);
});

/** Waits for a mail with this template, and returns the link in the first one. */
async function linkOf(template) {
  for (;;) {
    const files = fs.existsSync(mails) ? fs.readdirSync(mails).filter((file) => file.endsWith(`.${template}.eml`)) : [];
    if (files.length > 0) {
      // decodes what matters of the quoted-printable text: soft line breaks, and the "=" in the link
      const text = fs.readFileSync(path.join(mails, files[0]), "utf8").replace(/=\r\n/g, "").replace(/=3D/g, "=");
      return text.match(/https?:\/\/[^\s"]+#token=[\w-]+/)[0];
    }
    // Watches the folder above, because the first mail creates the folder. Also looks again after 100 ms, because a mail may
    // arrive before the watch begins.
    await new Promise((resolve) => { fs.watch(path.dirname(mails), () => resolve()).unref(); setTimeout(resolve, 100); });
  }
}
const heading = () => page.textContent("h1");
const focusedId = () => page.evaluate(() => document.activeElement.id);
const submit = async (selector = "main form button[type=submit]") => {
  await Promise.all([page.waitForNavigation(), page.click(selector)]);
};

// a first visit transfers less than 60 kB; a total below 1 kB would mean that nothing was counted
const devtools = await context.newCDPSession(page);
let transferred = 0;
await devtools.send("Network.enable");
devtools.on("Network.loadingFinished", ({ encodedDataLength }) => { transferred += encodedDataLength; });
await page.goto(`${base}/account/sign-in`, { waitUntil: "networkidle" });
assert.ok(transferred > 1000 && transferred < 60_000, `${transferred} bytes`);

// register
await page.click("text=Create one");
assert.equal(await heading(), "Create an account");
assert.equal(await focusedId(), "email");
await page.fill("#email", EMAIL);
await page.fill("#password", "password1");
await submit();
assert.match(await page.textContent("#password-error"), /most common/);
assert.equal(await page.inputValue("#email"), EMAIL);
assert.equal(await page.inputValue("#password"), "");
assert.equal(await focusedId(), "password", "the first wrong field has the focus");
await page.fill("#password", PASSWORD);
await page.click(".reveal");
assert.equal(await page.getAttribute("#password", "type"), "text");
await submit();
assert.equal(await heading(), "Profile", "the registration has signed in");

// the link of the mail fills in the form, and the page removes the token from the address
await page.goto(await linkOf("verify_address"));
assert.equal(page.url(), `${base}/account/verify-address`);
assert.ok(!(await page.isVisible("#token")) && !(await page.isVisible("#code")));
// the open page also takes the token of a link that changes only the fragment of its address
await page.goto(await linkOf("verify_address"));
await submit();
assert.equal(await heading(), "Address confirmed");
await page.click("text=Continue");
assert.equal(await heading(), "Profile");
await submit("header form button");
assert.equal(await heading(), "You are signed out");

// sign in: a wrong password first
await page.click("text=Sign in again");
await page.fill("#identifier", EMAIL);
await page.fill("#password", "wrong horse battery staple");
await submit();
assert.match(await page.textContent("[role=alert]"), /incorrect/);
assert.equal(await page.inputValue("#identifier"), EMAIL);
assert.equal(await focusedId(), "password");
await page.keyboard.type(PASSWORD);
await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
assert.equal(await heading(), "Profile");
assert.equal(await page.evaluate(() => document.cookie), "", "scripts can't read a cookie");

// the address is confirmed, the device is listed
await page.click("nav >> text=E-mail address");
assert.ok(await page.isVisible("text=Confirmed"));
await page.click("nav >> text=Devices and apps");
assert.ok(await page.isVisible("text=This device"));

// an authenticator app, and recovery codes
await page.click("nav >> text=Sign-in security");
await submit("text=Set up");
const secret = (await page.textContent(".secret")).replaceAll(" ", "");
assert.ok(await page.isVisible(".qr"));
await page.fill("#code", "000000");
await submit();
assert.match(await page.textContent("#code-error"), /wrong/);
assert.equal((await page.textContent(".secret")).replaceAll(" ", ""), secret, "the secret stays");
// the clock of the service stands still at this time
const code = execFileSync("oathtool", ["--totp", "--base32", "--now", `@${now}`, secret], { encoding: "utf8" }).trim();
await page.fill("#code", code);
await submit();
assert.equal(await heading(), "Your recovery codes");
const codes = await page.$$eval("#codes li", (items) => items.map((item) => item.textContent.trim()));
assert.equal(new Set(codes).size, codes.length);
assert.equal(codes.length, 10);
await page.click("text=I have saved them");
assert.equal(await heading(), "Sign-in security");

// a passkey
await devtools.send("WebAuthn.enable");
const options = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true };
const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", { options });
const setPresence = (enabled) => devtools.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId, enabled });
await submit("text=Add a passkey");
await page.fill("#name", "My laptop");
await Promise.all([page.waitForNavigation(), page.click("text=Create passkey")]);
assert.ok(await page.isVisible("text=My laptop"));

// The passkey confirms that the user is present. `next` is the page to which the user returns.
await page.goto(`${base}/account/reauthenticate?method=passkey&next=/security`);
assert.equal(await heading(), "Confirm that it's you");
await Promise.all([page.waitForNavigation(), page.click("text=Use passkey")]);
assert.equal(await heading(), "Sign-in security");

// After a sign-out, the browser's history shows no page of the account. Without the user's presence, the passkey cannot sign in by itself.
await setPresence(false);
await submit("header form button");
assert.equal(await heading(), "You are signed out");
await page.goBack();
await page.waitForSelector("#password");
assert.equal(await heading(), "Sign in");

// the passkey signs in: the browser offers it in the first field and may be faster than the click, which then fails
await setPresence(true);
await page.click("text=Sign in with a passkey").catch(() => {});
await page.waitForSelector("h1:has-text('Sign-in security')");
await submit("header form button");

// the password needs a second factor
await devtools.send("WebAuthn.disable");
await page.click("text=Sign in again");
await page.fill("#identifier", EMAIL);
await page.fill("#password", PASSWORD);
await submit();
assert.equal(await heading(), "Confirm that it's you");
await page.click("text=Use a recovery code");
await page.fill("#code", codes[0]);
await submit();
assert.equal(await heading(), "Profile");

assert.deepEqual(problems, []);
await browser.close();
console.log(`first visit: ${transferred} bytes`);
console.log("journey: ok");
