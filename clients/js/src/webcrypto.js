/** Node 18 has Web Crypto, but not under the name by which jose looks for it. */

import { webcrypto } from "node:crypto";

if (globalThis.crypto === undefined) {
  Object.defineProperty(globalThis, "crypto", { value: webcrypto, configurable: true });
}
