// Uses every OAuth endpoint for clients with oauth4webapi: discovery, client credentials, refresh, introspection, revocation.
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import * as oauth from 'oauth4webapi'
import { config } from './lines.mjs'

const http = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(config.issuer)
// The metadata documents of OpenID Connect and of OAuth 2.0 both name this issuer. The last one is used below.
let server
for (const algorithm of ['oidc', 'oauth2']) {
  server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...http, algorithm }))
  assert.equal(server.issuer, config.issuer)
}

const service = { client_id: config.client_id }
const privateKey = createPrivateKey(config.private_key)
const jwk = privateKey.export({ format: 'jwk' })
const key = await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const basic = oauth.ClientSecretBasic(config.client_secret)
const methods = [
  basic,
  oauth.ClientSecretPost(config.client_secret),
  oauth.PrivateKeyJwt({ key, kid: config.kid }),
]
const introspect = async (method, token) => {
  const response = await oauth.introspectionRequest(server, service, method, token, http)
  return oauth.processIntrospectionResponse(server, service, response)
}

for (const method of methods) {
  const response = await oauth.clientCredentialsGrantRequest(server, service, method, { scope: 'read' }, http)
  const tokens = await oauth.processClientCredentialsResponse(server, service, response)
  assert.equal(tokens.scope, 'read')
  assert.equal(tokens.refresh_token, undefined)
  // a request as an API would receive it; it is not sent
  const headers = { authorization: `Bearer ${tokens.access_token}` }
  const apiRequest = new Request('https://api.example.com/', { headers })
  const claims = await oauth.validateJwtAccessToken(server, apiRequest, config.audience, http)
  assert.equal(claims.sub, config.client_id)
  assert.equal(claims.client_id, config.client_id)
  assert.equal((await introspect(method, tokens.access_token)).active, true)
}

// no client secret contains a `~`
const wrongSecret = oauth.ClientSecretBasic(`${config.client_secret.slice(0, -1)}~`)
await assert.rejects(async () => {
  const response = await oauth.clientCredentialsGrantRequest(server, service, wrongSecret, {}, http)
  await oauth.processClientCredentialsResponse(server, service, response)
}, (error) => error instanceof oauth.WWWAuthenticateChallengeError || error.error === 'invalid_client')

// the first-party app, which is a public client
const app = { client_id: config.app_id }
const refresh = async (token) => {
  const response = await oauth.refreshTokenGrantRequest(server, app, oauth.None(), token, http)
  return oauth.processRefreshTokenResponse(server, app, response)
}
const first = await refresh(config.refresh_token)
const second = await refresh(first.refresh_token)
const introspected = await introspect(basic, second.access_token)
assert.equal(introspected.active, true)
assert.equal(introspected.sub, config.subject)
assert.equal(introspected.iss, config.issuer)
assert.equal((await introspect(basic, second.refresh_token)).active, true)

// the revocation of an unknown token succeeds too (RFC 7009, section 2.2)
for (const token of [second.refresh_token, 'unknown']) {
  const response = await oauth.revocationRequest(server, app, oauth.None(), token, http)
  await oauth.processRevocationResponse(response)
}
assert.deepEqual(await introspect(basic, second.access_token), { active: false })
await assert.rejects(refresh(second.refresh_token), { error: 'invalid_grant', status: 400 })
