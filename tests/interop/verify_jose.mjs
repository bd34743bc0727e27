// Verifies access tokens with the library jose. Reads tokens and writes results as lines.mjs describes.
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { answer, config, metadata } from './lines.mjs'

const { jwks_uri } = await metadata()
// config.jose: the test's options for the cache of keys. Without them, jose's defaults apply.
const keys = createRemoteJWKSet(new URL(jwks_uri), config.jose ?? {})
await answer(async (token) => {
  const { issuer, audience } = config
  const { payload } = await jwtVerify(token, keys, { issuer, audience, typ: 'at+jwt', requiredClaims: ['sub', 'exp'] })
  return payload.sub
})
