// Verifies access tokens with jose.
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { answer, config, metadata } from './lines.mjs'

const { jwks_uri } = await metadata()
const keys = createRemoteJWKSet(new URL(jwks_uri), config.jose ?? {})
await answer(async (token) => {
  const { issuer, audience } = config
  const { payload } = await jwtVerify(token, keys, { issuer, audience, typ: 'at+jwt', requiredClaims: ['sub', 'exp'] })
  return payload.sub
})
