// A small MCP server, which is the resource server of the MCP tests. It publishes its protected resource metadata (RFC 9728), and verifies
// tokens with clients/js.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js'
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js'
import express from 'express'
import { createVerifier, InvalidToken } from './latchkey-verify/src/index.js'
import { config } from './lines.mjs'

const { issuer, resource, scopes } = config
const verifier = createVerifier({ issuer, audience: resource, clientId: config.client_id, clientSecret: config.client_secret })
const { origin, pathname, port } = new URL(resource)
const metadataPath = `/.well-known/oauth-protected-resource${pathname}`

// The result has the form of the SDK's `AuthInfo`. The SDK answers InvalidTokenError with 401, and other errors with 500.
async function verifyAccessToken(token) {
  try {
    const claims = await verifier.verify(token)
    return { token, clientId: claims.clientId, scopes: [...claims.scope], expiresAt: claims.exp, resource: new URL(resource), extra: { sub: claims.sub } }
  } catch (error) {
    if (error instanceof InvalidToken) throw new InvalidTokenError(error.message)
    throw error
  }
}

const app = express()
app.use(express.json())
app.get(metadataPath, (request, response) => {
  response.json({ resource, authorization_servers: [issuer], scopes_supported: scopes, bearer_methods_supported: ['header'] })
})
const requireToken = requireBearerAuth({
  verifier: { verifyAccessToken }, requiredScopes: scopes, resourceMetadataUrl: origin + metadataPath, expectedResource: new URL(resource),
})
app.post(pathname, requireToken, async (request, response) => {
  // stateless: a new server for each request, and no MCP sessions
  const server = new McpServer({ name: 'whoami', version: '1.0.0' })
  server.registerTool('whoami', { description: 'The account and the client of the token' }, (extra) => ({
    content: [{ type: 'text', text: JSON.stringify({ sub: extra.authInfo.extra.sub, client_id: extra.authInfo.clientId }) }],
  }))
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined })
  response.on('close', () => transport.close())
  await server.connect(transport)
  await transport.handleRequest(request, response, request.body)
})
// a stateless server offers no stream (GET) and no session to end (DELETE)
app.all(pathname, (request, response) => response.status(405).end())
const httpServer = app.listen(Number(port), '127.0.0.1')
await new Promise((resolve) => httpServer.once('listening', resolve))
// the test waits for this line
console.log('ready')
