/** Makes Web Crypto available under the global name that jose uses; Node 18 has it in `node:crypto` only. */

import { webcrypto } from "node:crypto";

if (globalThis.crypto === undefined) {
  Object.defineProperty(globalThis, "crypto", { value: webcrypto, configurable: true });
}
