// Signs in to an MCP server with the OAuth client of npm's MCP SDK. The program prints `open URL` for the user's browser, and reads the URL
// to which the browser returns. Then it calls a tool twice: with the first access token, and with a refreshed one.
import { createInterface } from 'node:readline'
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { config } from './lines.mjs'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const state = crypto.randomUUID()
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

const connect = async () => {
  const client = new Client({ name: 'test', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(config.server), { authProvider: provider })
  try {
    await client.connect(transport)
    return client
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error
    const callback = new URL((await lines.next()).value)
    if (callback.searchParams.get('state') !== state) throw new Error(`unexpected state: ${callback}`)
    if (callback.searchParams.get('iss') !== config.issuer) throw new Error(`unexpected issuer: ${callback}`)
    await transport.finishAuth(callback.searchParams.get('code'))
    return connect()
  }
}

const whoami = async (client) => JSON.parse((await client.callTool({ name: 'whoami' })).content[0].text)
const client = await connect()
const first = await whoami(client)
const before = saved.tokens.refresh_token
// an invalid token, which the server refuses, so that the SDK refreshes
saved.tokens = { ...saved.tokens, access_token: `${saved.tokens.access_token}x` }
const second = await whoami(client)
if (saved.tokens.refresh_token === before) throw new Error('the tokens were not refreshed')
await client.close()
console.log(`done ${JSON.stringify({ first, second, client_id: saved.client.client_id })}`)
process.exit(0)
