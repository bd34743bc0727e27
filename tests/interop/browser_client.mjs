// Drives the page of examples/browser in Chromium against a running node, with the account ada@example.com. Exits with an error at the
// first failed assertion. Usage: node browser_client.mjs API PAGE, the URLs of the node and of the page.
import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const [api, pageUrl] = process.argv.slice(2);
const EMAIL = "ada@example.com";
const PASSWORD = "tidal engine verse marmalade";
// Chromium runs as root in a container, and must not send requests of its own.
const ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ARGS.split(" ") });

for (const transport of ["cookie", "bearer"]) {
  const context = await browser.newContext();
  context.setDefaultTimeout(30_000);
  const url = `${pageUrl}/?api=${encodeURIComponent(api)}&transport=${transport}`;

  /** Opens a tab and waits until the page shows whether the user is signed in. */
  async function openTab(device = context) {
    const page = await device.newPage();
    page.on("pageerror", (error) => assert.fail(`${transport}: ${error}`));
    await page.goto(url);
    await page.waitForSelector("#sign-in:not([hidden]), #account:not([hidden])");
    return page;
  }
  const waitUntilSignedIn = (page) => page.waitForSelector("#account:not([hidden])");
  const waitUntilSignedOut = (page) => page.waitForSelector("#sign-in:not([hidden])");
  const waitForSessions = (page, count) =>
    page.waitForFunction((count) => document.querySelectorAll("#sessions li").length === count, count);
  /** Calls /v1/me with the client of the page, which refreshes its access token when needed. Returns the status. */
  const callMe = (page) => page.evaluate(async (api) => (await globalThis.latchkey.fetch(`${api}/v1/me`)).status, api);
  async function signIn(page) {
    await page.fill("[name=identifier]", EMAIL);
    await page.fill("[name=password]", PASSWORD);
    await page.click("[value=sign-in]");
    await waitUntilSignedIn(page);
  }
  // The page is of another origin than the node, so the browser hides a response without these headers from it.
  const corsHeaders = { "Access-Control-Allow-Origin": pageUrl, "Access-Control-Allow-Credentials": "true" };
  /** Answers the next call of /v1/me in this tab with 401, as if the access token had expired. */
  const refuseOnce = (page) => page.route("**/v1/me", (route) => route.fulfill({ status: 401, headers: corsHeaders }), { times: 1 });

  // a wrong password shows the service's message, and the form keeps the identifier
  const first = await openTab();
  await first.fill("[name=identifier]", EMAIL);
  await first.fill("[name=password]", "wrong horse battery staple");
  await first.click("[value=sign-in]");
  await first.waitForFunction(() => document.getElementById("message").textContent.length > 0);
  assert.equal(await first.inputValue("[name=identifier]"), EMAIL);
  await signIn(first);

  // the user stays signed in after a reload
  await first.reload();
  await waitUntilSignedIn(first);
  if (transport === "cookie") {
    assert.equal(await first.evaluate(() => localStorage.length), 0, "scripts find no token in the storage");
    assert.equal(await first.evaluate(() => document.cookie), "", "scripts can't read the cookie");
  }

  // five tabs continue after their access tokens were refused at the same time
  const tabs = [first, ...(await Promise.all([openTab(), openTab(), openTab(), openTab()]))];
  await Promise.all(tabs.map(waitUntilSignedIn));
  await Promise.all(tabs.map(refuseOnce));
  assert.deepEqual(await Promise.all(tabs.map(callMe)), [200, 200, 200, 200, 200]);

  // a tab that is closed during a refresh does not block the others
  const victim = tabs.pop();
  const survivor = tabs[1];
  let reportRefresh;
  const refreshHasBegun = new Promise((resolve) => (reportRefresh = resolve));
  await victim.route("**/v1/refresh", () => reportRefresh()); // never answered
  await refuseOnce(victim);
  const victimsCall = callMe(victim).catch(() => "closed");
  await refreshHasBegun;
  await refuseOnce(survivor);
  const survivorsCall = callMe(survivor);
  await victim.close();
  assert.equal(await victimsCall, "closed");
  assert.equal(await survivorsCall, 200);

  // a refresh whose response is lost is repeated
  let lostResponses = 0;
  await survivor.route(
    "**/v1/refresh",
    async (route) => {
      await route.fetch(); // the node rotates the token
      lostResponses++;
      await route.abort("connectionreset");
    },
    { times: 1 },
  );
  await refuseOnce(survivor);
  assert.equal(await callMe(survivor), 200);
  assert.equal(lostResponses, 1);

  // the user is not signed out while the browser is offline
  await context.setOffline(true);
  assert.notEqual(await callMe(survivor).catch(() => "offline"), 401);
  await context.setOffline(false);
  assert.equal(await callMe(survivor), 200);

  // the list of devices ends the session of another device
  const elsewhere = await browser.newContext();
  const other = await openTab(elsewhere);
  await signIn(other);
  await first.reload();
  await waitForSessions(first, 2);
  assert.equal(await first.locator("#sessions li", { hasText: "(this device)" }).count(), 1);
  await first.click("#sessions li button"); // only other devices have a button
  await waitForSessions(first, 1);
  await other.reload();
  await waitUntilSignedOut(other);
  await elsewhere.close();

  // a sign-out in one tab signs out in all tabs, and a reload does not sign in again
  await first.click("#sign-out");
  await Promise.all(tabs.map(waitUntilSignedOut));
  await first.reload();
  await waitUntilSignedOut(first);
  await context.close();
  console.log(`${transport}: ok`);
}
await browser.close();
