// Uses the client that @hey-api/openapi-ts generated: register, sign in, refresh, list sessions, sign out.
import { equal } from 'node:assert/strict'
import { listSessions, login, logout, me, refresh, register, type LoginRequest, type Problem } from './latchkey-api'
import { client } from './latchkey-api/client.gen'

/** The test's argument. */
const config = JSON.parse(process.argv[2]!) as { issuer: string; password: string }
client.setConfig({ baseUrl: config.issuer })

/** The data of a successful call. */
function ok<T>({ data, error }: { data?: T; error?: unknown }): T {
  if (data === undefined) throw new Error(JSON.stringify(error))
  return data
}

async function main() {
  const credentials: LoginRequest = { identifier: 'linus@example.com', password: config.password, transport: 'bearer' }
  const account = ok(await register({ body: { email: credentials.identifier, password: credentials.password } }))
  const duplicate = await register({ body: { email: credentials.identifier, password: credentials.password } })
  equal((duplicate.error as Problem).status, 409)

  const wrong = await login({ body: { ...credentials, password: 'a wrong password' } })
  equal(wrong.error?.code, 'invalid_credentials')
  const tokens = ok(await login({ body: credentials }))
  const refreshed = ok(await refresh({ body: { refresh_token: tokens.refresh_token! } }))
  equal(refreshed.session_id, tokens.session_id)

  const accessToken = refreshed.access_token
  equal(ok(await me({ auth: accessToken })).id, account.id)
  const { sessions } = ok(await listSessions({ auth: accessToken }))
  equal(sessions.length, 1)
  equal(sessions[0]!.id, tokens.session_id)
  equal(sessions[0]!.current, true)

  equal((await logout({ auth: accessToken, body: { refresh_token: refreshed.refresh_token! } })).response?.status, 204)
  const ended = await refresh({ body: { refresh_token: refreshed.refresh_token! } })
  equal((ended.error as Problem).status, 401)
}

main().catch((error: unknown) => {
  console.error(error)
  process.exit(1)
})
