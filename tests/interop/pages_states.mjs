// Opens every state of every page in Chromium. Usage: node pages_states.mjs BASE SAMPLES [SCREENSHOTS]
// BASE is the URL of a service, which serves the assets. SAMPLES is a folder with the HTML of the states. SCREENSHOTS is a folder for
// screenshots at 360 and 1280 pixels.
// In both themes, axe-core must find no violation. No page may violate its content security policy, or scroll sideways at 320 pixels, in
// either direction of the text.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

const [base, samples, screenshots] = process.argv.slice(2);
const axe = fs.readFileSync(new URL(import.meta.resolve("axe-core")), "utf8");
// Chromium runs as root in a container, and must not send requests of its own.
const CHROMIUM_ARGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync --disable-background-networking --disable-component-update";
// the policy of pages, as the service sends it (src/http/pages/respond.rs)
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 800 };

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: CHROMIUM_ARGS.split(" ") });
const names = fs.readdirSync(samples).map((file) => path.basename(file, ".html")).sort();
assert.ok(names.length > 60, `only ${names.length} states: are samples missing?`);
const problems = [];

for (const theme of ["light", "dark"]) {
  const context = await browser.newContext({ colorScheme: theme, viewport: PHONE });
  const page = await context.newPage();
  page.on("console", (message) => {
    // among them: violations of the policy
    if (message.type() === "error") problems.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`${page.url()}: ${error}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:")) problems.push(`third party: ${url}`);
  });
  await page.route(`${base}/account/sample/*`, (route) => {
    const name = path.basename(new URL(route.request().url()).pathname);
    const headers = { "content-type": "text/html; charset=utf-8", "content-security-policy": POLICY };
    // The page's script submits a form with this attribute at once, which would leave the page.
    const body = fs.readFileSync(path.join(samples, `${name}.html`), "utf8").replace(" data-submit", "");
    return route.fulfill({ body, headers });
  });
  // The page of the sign-in requests these options for the autofill of passkeys.
  const passkeyOptions = { public_key: { challenge: "AAAA", rpId: "localhost", allowCredentials: [] }, expires_in: 300 };
  await page.route(`${base}/v1/login/passkey/options`, (route) => route.fulfill({ json: passkeyOptions }));
  for (const name of names) {
    await page.goto(`${base}/account/sample/${name}`, { waitUntil: "load" });
    if (screenshots) {
      // the phone last: axe-core checks the page at this size
      for (const size of [DESKTOP, PHONE]) {
        await page.setViewportSize(size);
        await page.screenshot({ path: path.join(screenshots, `${name}-${theme}-${size.width}.png`), fullPage: true });
      }
    }
    // Evaluated by the debugger, which the policy of the page does not restrict.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
    for (const { id, help, nodes } of violations) problems.push(`${theme} ${name}: ${id}: ${help}: ${nodes[0].html} ${nodes[0].failureSummary}`);
    await page.setViewportSize({ width: 320, height: 640 });
    for (const direction of ["ltr", "rtl"]) {
      const excess = await page.evaluate((direction) => {
        document.documentElement.dir = direction;
        return document.documentElement.scrollWidth - document.documentElement.clientWidth;
      }, direction);
      if (excess > 0) problems.push(`${theme} ${name}: scrolls sideways by ${excess} pixels (${direction})`);
    }
    await page.setViewportSize(PHONE);
  }
  await context.close();
}
await browser.close();
assert.deepEqual(problems, []);
console.log(`${names.length} states in two themes`);
console.log("states: ok");
