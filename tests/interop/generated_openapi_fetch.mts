// Uses openapi-fetch with the types that openapi-typescript generated: register, sign in, refresh, list sessions, sign out.
import assert from 'node:assert/strict'
import createClient from 'openapi-fetch'
import type { paths } from './schema.js'

const config = JSON.parse(process.argv[2]!) as { issuer: string; password: string }
const client = createClient<paths>({ baseUrl: config.issuer })

/** The data of a successful call. */
function ok<T>({ data, error }: { data?: T; error?: unknown }): NonNullable<T> {
  assert.ok(data, JSON.stringify(error))
  return data
}

const credentials = { identifier: 'barbara@example.com', password: config.password }
const registration = { body: { email: credentials.identifier, password: credentials.password } }
const account = ok(await client.POST('/v1/users', registration))
assert.equal((await client.POST('/v1/users', registration)).error?.status, 409)

const wrong = await client.POST('/v1/login', { body: { ...credentials, password: 'a wrong password' } })
assert.equal(wrong.error?.code, 'invalid_credentials')
const tokens = ok(await client.POST('/v1/login', { body: credentials }))
const refreshed = ok(await client.POST('/v1/refresh', { body: { refresh_token: tokens.refresh_token! } }))
assert.equal(refreshed.session_id, tokens.session_id)

const headers = { Authorization: `Bearer ${refreshed.access_token}` }
assert.equal(ok(await client.GET('/v1/me', { headers })).id, account.id)
const { sessions } = ok(await client.GET('/v1/sessions', { headers }))
assert.deepEqual(sessions.map(({ id, current }) => [id, current]), [[tokens.session_id, true]])

const { response } = await client.POST('/v1/logout', { headers, body: { refresh_token: refreshed.refresh_token! } })
assert.equal(response.status, 204)
const ended = await client.POST('/v1/refresh', { body: { refresh_token: refreshed.refresh_token! } })
assert.equal(ended.error?.status, 401)
