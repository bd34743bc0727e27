// What the verifiers in Node.js share: tokens come in one a line, and for each of them a line goes out.
import { createInterface } from 'node:readline'

/** What the test tells: `{ issuer, audience, … }`. */
export const given = JSON.parse(process.argv[2])

/** Answers each token with `valid SUBJECT`, or `refused REASON` where `verify` throws. */
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

/** The server's metadata, for libraries that don't read it themselves. */
export async function metadata() {
  const response = await fetch(`${given.issuer}/.well-known/oauth-authorization-server`)
  return response.json()
}
