// Verifies access tokens with oauth4webapi (RFC 9068).
import * as oauth from 'oauth4webapi'
import { answer, config } from './lines.mjs'

const http = { [oauth.allowInsecureRequests]: true }
const settings = config.oauth4webapi ?? {}
const issuer = new URL(config.issuer)
const found = await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' })
const server = await oauth.processDiscoveryResponse(issuer, found)
await answer(async (token) => {
  const request = new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } })
  // the key cache belongs to the metadata object; it is refreshed after a minute at the earliest
  const metadata = settings.keepKeys === false ? { ...server } : server
  const options = { ...http, [oauth.clockTolerance]: settings.clockTolerance ?? 30 }
  const claims = await oauth.validateJwtAccessToken(metadata, request, config.audience, options)
  return claims.sub
})
