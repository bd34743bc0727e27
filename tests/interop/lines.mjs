// Shared by the scripts in Node.js: their argument, and for verifiers a loop that reads one token per line and writes one result per
// line.
import { createInterface } from 'node:readline'

/** The test's argument: `{ issuer, audience, … }`. */
export const config = JSON.parse(process.argv[2])

/** Writes `valid SUBJECT` for each token, or `refused REASON` if `verify` throws. */
export async function answer(verify) {
  for await (const token of createInterface({ input: process.stdin })) {
    let line
    try {
      line = `valid ${await verify(token)}`
    } catch (error) {
      // libraries have error codes, and other errors a message, which may have several lines
      const reason = String(error.code ?? error.message)
      line = `refused ${reason.replaceAll('\n', ' ')}`
    }
    process.stdout.write(`${line}\n`)
  }
}

/** The server's metadata, for libraries without discovery. */
export async function metadata() {
  const response = await fetch(`${config.issuer}/.well-known/oauth-authorization-server`)
  return response.json()
}
