// Verifies access tokens with oauth4webapi, as an API would (RFC 9068).
import * as oauth from 'oauth4webapi'
import { answer, given } from './lines.mjs'

const http = { [oauth.allowInsecureRequests]: true }
const settings = given.oauth4webapi ?? {}
const issuer = new URL(given.issuer)
const found = await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' })
const server = await oauth.processDiscoveryResponse(issuer, found)
await answer(async (token) => {
  const request = new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } })
  // keys are kept with the server's metadata, and looked for again after a minute at the earliest
  const kept = settings.keepKeys === false ? { ...server } : server
  const options = { ...http, [oauth.clockTolerance]: settings.clockTolerance ?? 30 }
  const claims = await oauth.validateJwtAccessToken(kept, request, given.audience, options)
  return claims.sub
})
