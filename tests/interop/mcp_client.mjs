// Signs in to an MCP server with the OAuth client of npm's MCP SDK. The program prints `open URL` for the user's browser, and reads the URL
// to which the browser returns. Then it calls a tool twice: with the first access token, and with a refreshed one.
import { createInterface } from 'node:readline'
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { config } from './lines.mjs'

const inputLines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const state = crypto.randomUUID()
// what the SDK stores with the provider: the client's registration, the code verifier and the tokens
const saved = {}
const provider = {
  redirectUrl: config.redirect_uri,
  clientMetadataUrl: config.client_metadata_url,
  clientMetadata: {
    client_name: 'MCP SDK of npm',
    redirect_uris: [config.redirect_uri],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: config.auth_method,
  },
  state: () => state,
  clientInformation: () => saved.client,
  saveClientInformation: (client) => { saved.client = client },
  tokens: () => saved.tokens,
  saveTokens: (tokens) => { saved.tokens = tokens },
  codeVerifier: () => saved.verifier,
  saveCodeVerifier: (verifier) => { saved.verifier = verifier },
  redirectToAuthorization: (url) => console.log(`open ${url}`),
}

// Connects to the server, and signs the user in if the server requires it.
const connect = async () => {
  const client = new Client({ name: 'test', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(config.server), { authProvider: provider })
  try {
    await client.connect(transport)
    return client
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error
    const callbackLine = await inputLines.next()
    const callback = new URL(callbackLine.value)
    if (callback.searchParams.get('state') !== state) throw new Error(`unexpected state: ${callback}`)
    if (callback.searchParams.get('iss') !== config.issuer) throw new Error(`unexpected issuer: ${callback}`)
    await transport.finishAuth(callback.searchParams.get('code'))
    // again, with a new transport: the provider now has tokens
    return connect()
  }
}

const whoami = async (client) => {
  const result = await client.callTool({ name: 'whoami' })
  return JSON.parse(result.content[0].text)
}
const client = await connect()
const first = await whoami(client)
const firstRefreshToken = saved.tokens.refresh_token
// an invalid token, which the server refuses, so that the SDK refreshes
saved.tokens = { ...saved.tokens, access_token: `${saved.tokens.access_token}x` }
const second = await whoami(client)
if (saved.tokens.refresh_token === firstRefreshToken) throw new Error('the tokens were not refreshed')
await client.close()
console.log(`done ${JSON.stringify({ first, second, client_id: saved.client.client_id })}`)
process.exit(0) // the open standard input would keep the process alive
