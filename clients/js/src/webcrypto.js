/** Makes Web Crypto available under the global name that jose uses; Node 18 has it in `node:crypto` only. */

import { webcrypto } from "node:crypto";

if (globalThis.crypto === undefined) {
  // configurable, as in newer releases of Node, so that other polyfills can replace it
  Object.defineProperty(globalThis, "crypto", { value: webcrypto, configurable: true });
}
