// Combines the screenshots of pages_states.mjs into one picture of each page: light and dark, at 1280 and 360 pixels. Usage:
//   PAGES_SCREENSHOTS=FOLDER make test ARGS="--test it pages::chromium"; node tests/tools/page_sheets.mjs FOLDER docs/images/pages
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { chromium } from "playwright-core";

const [screenshotFolder, targetFolder] = process.argv.slice(2);
// For each page, the state that shows the most parts of the page. The names of states are those of the screenshots.
const STATES = {
  "sign-in": "sign_in-2", "sign-in-code": "sign_in_code-2", "second-factor": "second_factor-1", "second-factor-mail": "second_factor-4", enrol: "enrol-1", "enrol-passkey": "enrol-2", "enrol-app": "totp-1", register: "register-2-failed", "verify-address": "verify_address-2",
  "forgot-password": "forgot_password-1", "reset-password": "reset_password-2", invitation: "reset_password-3", "confirm-address": "verify_address-4", "undo-address": "link-1", "not-me": "link-2",
  consent: "consent-1", "select-account": "select_account-1", reauthenticate: "reauthenticate-1", "reauthenticate-factor": "reauthenticate-3", "form-post": "form_post-1", "sign-out": "sign_out-1",
  "signed-out": "message-1", error: "message-11", "sign-in-failed": "message-9-failed", profile: "profile-1", address: "address-3", password: "password-1",
  security: "security-1", totp: "totp-2", "recovery-codes": "recovery_codes-1", devices: "devices-1", data: "data-1",
};

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"] });
fs.mkdirSync(targetFolder, { recursive: true });
let totalBytes = 0;
for (const [name, state] of Object.entries(STATES)) {
  const image = (theme, width) => {
    const screenshot = path.resolve(screenshotFolder, `${state}-${theme}-${width}.png`);
    // at half its size
    return `<img src="${pathToFileURL(screenshot)}" width="${width / 2}" alt="">`;
  };
  const images = ["light", "dark"].map((theme) => image(theme, 1280) + image(theme, 360)).join("");
  const html = `<!doctype html><body style="margin:0;padding:12px;display:inline-flex;gap:12px;align-items:flex-start;background:#8a8d93">${images}`;
  const sheet = path.join(screenshotFolder, `${name}.html`);
  fs.writeFileSync(sheet, html);
  // wide enough for the four images and the gaps
  const page = await browser.newPage({ viewport: { width: 1720, height: 400 }, deviceScaleFactor: 1 });
  await page.goto(pathToFileURL(path.resolve(sheet)).href, { waitUntil: "load" });
  const { width, height } = await page.evaluate(() => ({ width: document.body.scrollWidth, height: document.body.scrollHeight }));
  await page.setViewportSize({ width, height });
  // `page.screenshot` writes no WebP
  const devtools = await page.context().newCDPSession(page);
  const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: 55 });
  const bytes = Buffer.from(data, "base64");
  totalBytes += bytes.length;
  fs.writeFileSync(path.join(targetFolder, `${name}.webp`), bytes);
  await page.close();
}
await browser.close();
console.log(`${Object.keys(STATES).length} pages, ${totalBytes} bytes`);
