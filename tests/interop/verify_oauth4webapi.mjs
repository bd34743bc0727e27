// Verifies access tokens with oauth4webapi (RFC 9068).
import * as oauth from 'oauth4webapi'
import { answer, config } from './lines.mjs'

// the test's issuer has an `http` URL
const http = { [oauth.allowInsecureRequests]: true }
const settings = config.oauth4webapi ?? {}
const issuer = new URL(config.issuer)
// `oauth2`: the metadata of RFC 8414, not of OpenID Connect
const response = await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' })
const server = await oauth.processDiscoveryResponse(issuer, response)
await answer(async (token) => {
  // the library reads the token from a request; the URL has no meaning
  const request = new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } })
  // The library caches keys for each metadata object, for at least a minute. A copy of the object has no cache.
  const metadata = settings.keepKeys === false ? { ...server } : server
  const options = { ...http, [oauth.clockTolerance]: settings.clockTolerance ?? 30 }
  const claims = await oauth.validateJwtAccessToken(metadata, request, config.audience, options)
  return claims.sub
})
