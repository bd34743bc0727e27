// Takes screenshots of every mail in light and dark. Usage: node mail_pictures.mjs LATCHKEY OUTPUT
// LATCHKEY is the program, OUTPUT the folder for the screenshots. The environment variable CHROMIUM names the browser.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

const [latchkey, output] = process.argv.slice(2);
const texts = fs.readFileSync(new URL("../../src/mail/templates/en.toml", import.meta.url), "utf8");
// The file has a table for each template, and the table `common` for texts of all.
const tables = [...texts.matchAll(/^\[(\w+)\]/gm)].map((match) => match[1]);
const templates = tables.filter((name) => name !== "common");
// Chromium runs as root in a container.
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
fs.mkdirSync(output, { recursive: true });
for (const colorScheme of ["light", "dark"]) {
  const page = await browser.newPage({ colorScheme, viewport: { width: 600, height: 200 } });
  for (const template of templates) {
    const html = execFileSync(latchkey, ["mail", "preview", template], { encoding: "utf8" });
    await page.setContent(html);
    await page.screenshot({ path: path.join(output, `${template}-${colorScheme}.png`), fullPage: true });
  }
}
await browser.close();
