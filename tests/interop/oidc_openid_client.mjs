// Signs the user ada in with openid-client, in an app with a secret and one without: discovery, PKCE, the ID token, userinfo, refresh, a
// second use of the code, a refused request, and the URL of a sign-out.
import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { browse } from './oidc_browser.mjs'
import { config } from './lines.mjs'

// how recent the user's authentication must be, in seconds
const MAX_AGE = 3600

for (const [id, authentication] of [
  ['shop', client.ClientSecretBasic(config.client_secret)],
  ['shop', client.ClientSecretPost(config.client_secret)],
  ['spa', client.None()],
]) {
  const furtherMetadata = undefined // `authentication` contains the secret
  // the test's issuer has no TLS
  const app = await client.discovery(new URL(config.issuer), id, furtherMetadata, authentication, { execute: [client.allowInsecureRequests] })
  assert.ok(app.serverMetadata().supportsPKCE())
  const verifier = client.randomPKCECodeVerifier()
  const state = client.randomState()
  const nonce = client.randomNonce()
  const url = client.buildAuthorizationUrl(app, {
    redirect_uri: config.redirect_uri,
    scope: 'openid profile email offline_access',
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    max_age: String(MAX_AGE),
    state,
    nonce,
  })
  const callback = await browse(url)
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, maxAge: MAX_AGE, idTokenExpected: true }
  const tokens = await client.authorizationCodeGrant(app, callback, checks)
  const claims = tokens.claims()
  assert.deepEqual([claims.sub, claims.aud, claims.email], [config.subject, id, 'ada@example.com'])
  const user = await client.fetchUserInfo(app, tokens.access_token, claims.sub)
  assert.deepEqual([user.email, user.preferred_username], ['ada@example.com', 'ada'])
  const refreshed = await client.refreshTokenGrant(app, tokens.refresh_token)
  assert.equal(refreshed.claims().sub, config.subject)
  // a second use of the code is refused and ends the session
  await assert.rejects(client.authorizationCodeGrant(app, callback, checks), { error: 'invalid_grant' })
  await assert.rejects(client.refreshTokenGrant(app, refreshed.refresh_token), { error: 'invalid_grant' })

  // The library understands the response to a request with a contradictory `prompt`.
  const refusal = await browse(client.buildAuthorizationUrl(app, {
    redirect_uri: config.redirect_uri,
    scope: 'openid',
    prompt: 'none login',
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  }))
  await assert.rejects(client.authorizationCodeGrant(app, refusal, { pkceCodeVerifier: verifier }), { error: 'invalid_request' })

  const logoutUrl = client.buildEndSessionUrl(app, { client_id: id, post_logout_redirect_uri: config.bye })
  assert.equal(new URL(logoutUrl).pathname, '/oauth2/logout')
}
