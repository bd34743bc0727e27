// Uses every OAuth endpoint for clients with openid-client: discovery, client credentials, refresh, introspection, revocation.
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import * as client from 'openid-client'
import { config } from './lines.mjs'

// The library signs with a key of the Web Crypto API.
const jwk = createPrivateKey(config.private_key).export({ format: 'jwk' })
const extractable = false
const key = await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, extractable, ['sign'])
// `algorithm` selects the metadata document: 'oidc' or 'oauth2'.
const discover = (id, authentication, algorithm) =>
  client.discovery(new URL(config.issuer), id, undefined, authentication, { algorithm, execute: [client.allowInsecureRequests] })

let service
for (const authentication of [
  client.ClientSecretPost(config.client_secret),
  client.ClientSecretBasic(config.client_secret),
  client.PrivateKeyJwt({ key, kid: config.kid }),
]) {
  service = await discover(config.client_id, authentication, 'oidc')
  const tokens = await client.clientCredentialsGrant(service, { scope: 'read write' })
  assert.equal(tokens.token_type, 'bearer') // The library writes the type in lower case.
  assert.equal(tokens.scope, 'read write')
  const introspected = await client.tokenIntrospection(service, tokens.access_token)
  assert.equal(introspected.active, true)
  assert.equal(introspected.sub, config.client_id)
}
// The client has no scope `account`.
await assert.rejects(client.clientCredentialsGrant(service, { scope: 'account' }), { error: 'invalid_scope' })

const app = await discover(config.app_id, client.None(), 'oauth2')
const first = await client.refreshTokenGrant(app, config.refresh_token)
const second = await client.refreshTokenGrant(app, first.refresh_token)
assert.equal((await client.tokenIntrospection(service, second.access_token)).sub, config.subject)
await client.tokenRevocation(app, second.access_token)
// An unknown token is not an error (RFC 7009, section 2.2).
await client.tokenRevocation(app, 'unknown')
assert.deepEqual(await client.tokenIntrospection(service, second.access_token), { active: false })
await assert.rejects(client.refreshTokenGrant(app, second.refresh_token), { error: 'invalid_grant' })
