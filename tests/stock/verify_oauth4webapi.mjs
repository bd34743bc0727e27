// Verifies access tokens with oauth4webapi, as an API would (RFC 9068).
import * as oauth from 'oauth4webapi'
import { answer, given } from './lines.mjs'

const http = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(given.issuer)
const found = await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' })
const server = await oauth.processDiscoveryResponse(issuer, found)
await answer(async (token) => {
  const request = new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } })
  const claims = await oauth.validateJwtAccessToken(server, request, given.audience, http)
  return claims.sub
})
