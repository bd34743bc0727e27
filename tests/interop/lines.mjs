// Shared by the verifiers in Node.js: reads one token per line and writes one result per line.
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
      line = `refused ${String(error.code ?? error.message).replaceAll('\n', ' ')}`
    }
    process.stdout.write(`${line}\n`)
  }
}

/** The server's metadata, for libraries without discovery. */
export async function metadata() {
  const response = await fetch(`${config.issuer}/.well-known/oauth-authorization-server`)
  return response.json()
}
