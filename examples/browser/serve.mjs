// Serves the plain page at http://localhost:PORT: `node serve.mjs [PORT]`, by default 3000. Build the client first: see README.md.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const clientFolder = process.env.LATCHKEY_BROWSER_DIST ?? join(here, "../../clients/browser/dist");
const port = Number(process.argv[2] ?? 3000);
const CONTENT_TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".map": "application/json" };

const server = createServer((request, response) => {
  // `URL` and `normalize` resolve "..", also when percent-encoded: no path leaves its folder
  const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
  const file = path.startsWith("/latchkey-browser/")
    ? join(clientFolder, path.slice("/latchkey-browser/".length))
    : join(here, "plain", path === "/" ? "index.html" : path);
  if (!existsSync(file) || !statSync(file).isFile()) {
    response.writeHead(404).end("not found\n");
    return;
  }
  response.writeHead(200, { "Content-Type": CONTENT_TYPES[extname(file)] ?? "application/octet-stream", "Cache-Control": "no-store" });
  createReadStream(file).pipe(response);
});
server.listen(port, "localhost", () => console.log(`http://localhost:${port}`));
