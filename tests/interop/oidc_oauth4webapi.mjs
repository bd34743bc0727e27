// Signs a user in with oauth4webapi, as a confidential and as a public app: discovery, PKCE, the issuer in the response, the ID token,
// userinfo, refresh.
import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { browse } from './oidc_browser.mjs'
import { config } from './lines.mjs'

// allows an issuer without TLS
const insecure = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(config.issuer)
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, insecure))
for (const [id, authentication] of [
  ['shop', oauth.ClientSecretBasic(config.client_secret)],
  ['spa', oauth.None()],
]) {
  // `require_auth_time`: oauth4webapi refuses an ID token without `auth_time`
  const app = { client_id: id, require_auth_time: true }
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const nonce = oauth.generateRandomNonce()
  const url = new URL(server.authorization_endpoint)
  for (const [name, value] of Object.entries({
    response_type: 'code',
    client_id: id,
    redirect_uri: config.redirect_uri,
    scope: 'openid email',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  })) {
    url.searchParams.set(name, value)
  }
  const callback = await browse(url)
  // this refuses a response without `iss` (RFC 9207), since the metadata says that responses have it
  const parameters = oauth.validateAuthResponse(server, app, callback, state)
  const response = await oauth.authorizationCodeGrantRequest(server, app, authentication, parameters, config.redirect_uri, verifier, insecure)
  const tokens = await oauth.processAuthorizationCodeResponse(server, app, response, { expectedNonce: nonce, requireIdToken: true })
  const claims = oauth.getValidatedIdTokenClaims(tokens)
  assert.equal(claims.sub, config.subject)
  assert.equal(claims.email, 'ada@example.com')
  // the signature of the ID token
  await oauth.validateApplicationLevelSignature(server, response, insecure)
  const userInfo = await oauth.userInfoRequest(server, app, tokens.access_token, insecure)
  const user = await oauth.processUserInfoResponse(server, app, claims.sub, userInfo)
  assert.equal(user.email, 'ada@example.com')
  const refreshed = await oauth.refreshTokenGrantRequest(server, app, authentication, tokens.refresh_token, insecure)
  const newTokens = await oauth.processRefreshTokenResponse(server, app, refreshed)
  assert.ok(newTokens.access_token)
  // the same response is refused if the app expects another issuer
  assert.throws(() => oauth.validateAuthResponse({ ...server, issuer: 'https://other.example' }, app, callback, state))
}
