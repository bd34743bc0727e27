// Everything that a client does, with oauth4webapi: discovery, tokens of its own, refresh, introspection, revocation.
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import * as oauth from 'oauth4webapi'
import { given } from './lines.mjs'

const http = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(given.issuer)
let server
for (const algorithm of ['oidc', 'oauth2']) {
  server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...http, algorithm }))
  assert.equal(server.issuer, given.issuer)
}

const service = { client_id: given.client_id }
const pem = createPrivateKey(given.private_key)
const jwk = pem.export({ format: 'jwk' })
const key = await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const ways = [
  oauth.ClientSecretBasic(given.client_secret),
  oauth.ClientSecretPost(given.client_secret),
  oauth.PrivateKeyJwt({ key, kid: given.kid }),
]
const introspect = async (way, token) => {
  const response = await oauth.introspectionRequest(server, service, way, token, http)
  return oauth.processIntrospectionResponse(server, service, response)
}

for (const way of ways) {
  const request = await oauth.clientCredentialsGrantRequest(server, service, way, { scope: 'read' }, http)
  const tokens = await oauth.processClientCredentialsResponse(server, service, request)
  assert.equal(tokens.scope, 'read')
  assert.equal(tokens.refresh_token, undefined)
  const api = new Request('https://api.example.com/', { headers: { authorization: `Bearer ${tokens.access_token}` } })
  const claims = await oauth.validateJwtAccessToken(server, api, given.audience, http)
  assert.equal(claims.sub, given.client_id)
  assert.equal(claims.client_id, given.client_id)
  assert.equal((await introspect(way, tokens.access_token)).active, true)
}

const wrong = oauth.ClientSecretBasic(`${given.client_secret.slice(0, -1)}~`)
await assert.rejects(async () => {
  const request = await oauth.clientCredentialsGrantRequest(server, service, wrong, {}, http)
  await oauth.processClientCredentialsResponse(server, service, request)
}, (error) => error instanceof oauth.WWWAuthenticateChallengeError || error.error === 'invalid_client')

// an app that signed a user in: it has no secret
const app = { client_id: given.app_id }
const refresh = async (token) => {
  const response = await oauth.refreshTokenGrantRequest(server, app, oauth.None(), token, http)
  return oauth.processRefreshTokenResponse(server, app, response)
}
const first = await refresh(given.refresh_token)
const second = await refresh(first.refresh_token)
const known = await introspect(ways[0], second.access_token)
assert.deepEqual([known.active, known.sub, known.iss], [true, given.subject, given.issuer])
assert.equal((await introspect(ways[0], second.refresh_token)).active, true)

for (const token of [second.refresh_token, 'unheard-of']) {
  await oauth.processRevocationResponse(await oauth.revocationRequest(server, app, oauth.None(), token, http))
}
assert.deepEqual(await introspect(ways[0], second.access_token), { active: false })
await assert.rejects(refresh(second.refresh_token), { error: 'invalid_grant', status: 400 })
