// The reference for sign-ins to apps: node-oidc-provider with a Redis adapter. Runs as a cluster of WORKERS processes.
//
// It does the same work as Latchkey's code flow: PKCE, a client with a secret, JWT access tokens and ID tokens by ES256 with a parsed
// key, and a refresh token for each sign-in. An interaction signs the user in without a form, so that the load generator gets browser
// sessions.

import cluster from 'node:cluster'
import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'

// KEY is the path of the signing key (PEM), KID its id, and CLIENT has the form id:secret.
const { PORT, WORKERS, KEY, KID, CLIENT, REDIS_URL } = process.env

const HOUR = 3600
const DAY = 24 * HOUR

if (cluster.isPrimary) {
  for (let i = 0; i < Number(WORKERS); i++) cluster.fork()
} else {
  const [{ default: Provider }, { Redis }] = await Promise.all([import('oidc-provider'), import('ioredis')])

  const ISSUER = 'https://auth.example.com'
  const RESOURCE = 'https://api.example.com'
  const store = new Redis(REDIS_URL, { enableAutoPipelining: true })

  /**
   * Stores node-oidc-provider's records in Redis. A record is a hash with the payload and, once consumed, the time of use. For each
   * grant, a list names the records to delete when the grant is revoked. The list is kept for an hour, which is longer than a
   * benchmark. Times are in seconds.
   */
  class RedisAdapter {
    constructor (model) {
      this.model = model
    }

    key (id) {
      return `${this.model}:${id}`
    }

    async upsert (id, payload, expiresIn) {
      const key = this.key(id)
      const writes = store.multi().hset(key, 'payload', JSON.stringify(payload))
      if (expiresIn) writes.expire(key, expiresIn)
      if (payload.uid) writes.set(`uid:${payload.uid}`, id, 'EX', expiresIn ?? HOUR)
      // A browser's session outlives the revocation of a grant.
      if (payload.grantId && this.model !== 'Session') {
        writes.rpush(`grant:${payload.grantId}`, key).expire(`grant:${payload.grantId}`, HOUR)
      }
      await writes.exec()
    }

    async find (id) {
      const record = await store.hgetall(this.key(id))
      if (!record.payload) return undefined
      const payload = JSON.parse(record.payload)
      return record.consumed ? { ...payload, consumed: Number(record.consumed) } : payload
    }

    async findByUid (uid) {
      const id = await store.get(`uid:${uid}`)
      return id ? this.find(id) : undefined
    }

    // The device flow is disabled, so no record has a user code.
    async findByUserCode () {
      return undefined
    }

    async consume (id) {
      await store.hset(this.key(id), 'consumed', Math.floor(Date.now() / 1000))
    }

    async destroy (id) {
      await store.del(this.key(id))
    }

    async revokeByGrantId (grantId) {
      const keys = await store.lrange(`grant:${grantId}`, 0, -1)
      await store.del(`grant:${grantId}`, ...keys)
    }
  }

  const [clientId, clientSecret] = CLIENT.split(':')
  const signingJwk = { ...createPrivateKey(readFileSync(KEY)).export({ format: 'jwk' }), kid: KID, alg: 'ES256', use: 'sig' }

  const provider = new Provider(ISSUER, {
    adapter: RedisAdapter,
    jwks: { keys: [signingJwk] },
    clients: [{
      client_id: clientId,
      client_secret: clientSecret,
      redirect_uris: ['https://app.example.com/callback'],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_basic',
      id_token_signed_response_alg: 'ES256'
    }],
    cookies: { keys: ['a key of this benchmark only'] },
    // Every id is an account.
    findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    features: {
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'read', audience: RESOURCE, accessTokenFormat: 'jwt', accessTokenTTL: HOUR, jwt: { sign: { alg: 'ES256' } }
        })
      }
    },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: async () => true,
    // Grants the first-party app what it needs without asking the user for consent.
    async loadExistingGrant (ctx) {
      const { client, session } = ctx.oidc
      const grantId = session.grantIdFor(client.clientId)
      const existing = grantId && await ctx.oidc.provider.Grant.find(grantId)
      if (existing) return existing
      const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId })
      grant.addOIDCScope('openid')
      grant.addResourceScope(RESOURCE, 'read')
      await grant.save()
      return grant
    },
    routes: { authorization: '/oauth2/authorize', token: '/oauth2/token' },
    pkce: { required: () => true },
    ttl: {
      AccessToken: HOUR,
      AuthorizationCode: 60,
      Grant: 30 * DAY,
      IdToken: HOUR,
      Interaction: 600,
      RefreshToken: 7 * DAY,
      Session: 7 * DAY
    }
  })
  // The load generator sends X-Forwarded-Proto, as a proxy that terminates TLS would. The provider trusts it.
  provider.proxy = true

  let users = 0
  provider.use(async (ctx, next) => {
    if (ctx.path === '/livez') {
      ctx.body = { status: 'ok' }
      return
    }
    if (!ctx.path.startsWith('/interaction/')) return next()
    // Each interaction signs in another user: the process id keeps the workers' users apart.
    const login = { accountId: `user-${process.pid}-${users++}` }
    // interactionFinished writes the response, so Koa must not.
    ctx.respond = false
    await provider.interactionFinished(ctx.req, ctx.res, { login }, { mergeWithLastSubmission: false })
  })

  provider.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 2048 })
}
