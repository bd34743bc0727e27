// The Fastify reference: sign-in, refresh, sign-out and introspection, written to be fast.
//
// Keys are parsed once. Each call makes one Redis round trip: one Lua script or one command. ioredis pipelines the commands of one turn
// of the event loop. Responses are serialised by schema. Runs as a cluster of WORKERS processes.

import cluster from 'node:cluster'
import { createHash, createPrivateKey, createPublicKey, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'

// KEY is the file of the signing key, in PEM, and KID is the key's id. CLIENT is the introspecting client, as id:secret. DATABASE is
// the SQLite file of the accounts.
const { PORT, WORKERS, KEY, KID, CLIENT, REDIS_URL, DATABASE } = process.env

if (cluster.isPrimary) {
  for (let i = 0; i < Number(WORKERS); i++) cluster.fork()
} else {
  // Imported here, so that the primary process does not load what only the workers use.
  const [{ default: fastify }, { default: formbody }, { Redis }, { default: argon2 }, { DatabaseSync }] = await Promise.all([
    import('fastify'), import('@fastify/formbody'), import('ioredis'), import('argon2'), import('node:sqlite')])

  const ISSUER = 'https://auth.example.com'
  const ACCESS_TTL_S = 3600
  const IDLE_MS = 7 * 24 * 3600 * 1000
  const ABSOLUTE_MS = 30 * 24 * 3600 * 1000
  const GRACE_MS = 10_000

  const readScript = name => readFileSync(new URL(`../lua/${name}.lua`, import.meta.url), 'utf8')
  const store = new Redis(REDIS_URL, { enableAutoPipelining: true })
  store.defineCommand('createSession', { numberOfKeys: 2, lua: readScript('create') })
  store.defineCommand('rotateSession', { numberOfKeys: 1, lua: readScript('rotate') })
  store.defineCommand('revokeSession', { numberOfKeys: 1, lua: readScript('revoke') })

  const database = new DatabaseSync(DATABASE, { readOnly: true })
  const findAccount = database.prepare('SELECT id, password_hash FROM accounts WHERE email = ?')
  // Verified for an unknown account, so that it takes as long as a wrong password. The accounts' hashes have the same parameters.
  const dummyHash = await argon2.hash('nobody', { type: argon2.argon2id, memoryCost: 19456, timeCost: 2, parallelism: 1 })

  const key = createPrivateKey(readFileSync(KEY))
  const jwt = await tokenCodec(key, createPublicKey(key))

  const digest = secret => createHash('sha256').update(secret).digest('hex')
  const [clientId, clientSecret] = CLIENT.split(':')
  const clientSecretHash = createHash('sha256').update(clientSecret).digest()

  const app = fastify()
  app.register(formbody)

  const text = { type: 'string' }
  const number = { type: 'integer' }
  // A response schema for each status.
  const tokensSchema = {
    200: {
      type: 'object',
      properties: {
        access_token: text, token_type: text, expires_in: number, refresh_token: text, refresh_expires_in: number, session_id: text
      }
    }
  }
  const introspectionSchema = {
    200: {
      type: 'object',
      properties: {
        active: { type: 'boolean' }, token_type: text, iss: text, sub: text, aud: text, client_id: text, iat: number, exp: number,
        jti: text, sid: text, auth_time: number, acr: text, amr: { type: 'array', items: text }, scope: text
      }
    }
  }
  const refreshTokenBody = {
    type: 'object', required: ['refresh_token'], properties: { refresh_token: { type: 'string', maxLength: 256 } }
  }
  const loginBody = {
    type: 'object',
    required: ['identifier', 'password'],
    properties: { identifier: { type: 'string', minLength: 1, maxLength: 320 }, password: { type: 'string', maxLength: 1024 } }
  }

  const refuse = (reply, code) =>
    reply.code(401).header('cache-control', 'no-store').header('www-authenticate', 'Bearer')
      .send({ title: 'Unauthorized', status: 401, code })

  const issueTokens = (reply, user, session, secret, createdMs) => {
    const nowS = Math.floor(Date.now() / 1000)
    const claims = {
      iss: ISSUER, sub: user, aud: 'latchkey', client_id: 'latchkey', iat: nowS, exp: nowS + ACCESS_TTL_S, jti: randomUUID(), sid: session,
      auth_time: Math.floor(createdMs / 1000), acr: 'aal1', amr: ['pwd'], scope: 'account'
    }
    reply.header('cache-control', 'no-store')
    return {
      access_token: jwt.sign(claims), token_type: 'Bearer', expires_in: ACCESS_TTL_S, refresh_token: `${session}.${secret}`,
      refresh_expires_in: IDLE_MS / 1000, session_id: session
    }
  }

  app.post('/v1/login', { schema: { body: loginBody, response: tokensSchema } }, async (request, reply) => {
    const { identifier, password } = request.body
    const account = findAccount.get(identifier.toLowerCase())
    const isPassword = await argon2.verify(account?.password_hash ?? dummyHash, password)
    if (!isPassword || !account) return refuse(reply, 'invalid_credentials')
    const session = randomUUID()
    const secret = randomBytes(32).toString('base64url')
    const nowMs = Date.now()
    await store.createSession(
      `session:${session}`, `user:${account.id}`, account.id, digest(secret), nowMs, nowMs + ABSOLUTE_MS, IDLE_MS, session)
    return issueTokens(reply, account.id, session, secret, nowMs)
  })

  app.post('/v1/refresh', { schema: { body: refreshTokenBody, response: tokensSchema } }, async (request, reply) => {
    const [session, secret = ''] = request.body.refresh_token.split('.', 2)
    const nextSecret = randomBytes(32).toString('base64url')
    const [outcome, user, createdMs] =
      await store.rotateSession(`session:${session}`, digest(secret), digest(nextSecret), Date.now(), GRACE_MS, IDLE_MS)
    if (outcome !== 'rotated') return refuse(reply, outcome === 'reused' ? 'refresh_token_reused' : 'invalid_refresh_token')
    return issueTokens(reply, user, session, nextSecret, Number(createdMs))
  })

  app.post('/v1/logout', { schema: { body: refreshTokenBody } }, async (request, reply) => {
    const [session, secret = ''] = request.body.refresh_token.split('.', 2)
    // The script appends the account's id, which it reads from the session, to this prefix.
    const accountKeyPrefix = 'user:'
    await store.revokeSession(`session:${session}`, digest(secret), accountKeyPrefix, session)
    return reply.code(204).send()
  })

  const isClient = authorization => {
    if (!authorization?.startsWith('Basic ')) return false
    const credentials = Buffer.from(authorization.slice('Basic '.length), 'base64').toString()
    const [id, secret = ''] = credentials.split(':', 2)
    // timingSafeEqual accepts only inputs of equal length, so it compares hashes.
    return id === clientId && timingSafeEqual(createHash('sha256').update(secret).digest(), clientSecretHash)
  }

  app.post('/oauth2/introspect', { schema: { response: introspectionSchema } }, async (request, reply) => {
    if (!isClient(request.headers.authorization)) return reply.code(401).send({ error: 'invalid_client' })
    reply.header('cache-control', 'no-store')
    const claims = jwt.verify(request.body.token)
    if (!claims || !await store.exists(`session:${claims.sid}`)) return { active: false }
    claims.active = true
    claims.token_type = 'Bearer'
    return claims
  })

  app.get('/livez', async () => ({ status: 'ok' }))

  await app.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 2048 })

  // Signs and verifies tokens. The checks are signature, algorithm, issuer, audience and expiry, as in the other reference services. `verify` returns null for an invalid token.
  async function tokenCodec(key, publicKey) {
    const { createSigner, createVerifier } = await import('fast-jwt')
    const privatePem = key.export({ type: 'pkcs8', format: 'pem' })
    const publicPem = publicKey.export({ type: 'spki', format: 'pem' })
    const signer = createSigner({ key: privatePem, algorithm: 'ES256', noTimestamp: true, header: { typ: 'at+jwt', kid: KID } })
    const verifier = createVerifier({ key: publicPem, algorithms: ['ES256'], allowedIss: ISSUER, allowedAud: 'latchkey', cache: false })
    return {
      sign: signer,
      verify: token => {
        try {
          return verifier(token)
        } catch {
          return null
        }
      }
    }
  }
}
