// Verifies access tokens with express-oauth2-jwt-bearer: each token is sent to an Express app, which the library protects.
import express from 'express'
import { auth } from 'express-oauth2-jwt-bearer'
import { answer, config } from './lines.mjs'

const app = express()
// config.express: further options of the library. strict: the type of the token must be at+jwt (RFC 9068)
app.use(auth({ issuerBaseURL: config.issuer, audience: config.audience, strict: true, ...config.express }))
app.get('/', (request, response) => response.send(request.auth.payload.sub))
// Express recognizes an error handler by its four parameters.
app.use((error, request, response, _next) => {
  response.set(error.headers ?? {}).status(error.status ?? 500).send(error.message)
})
const server = app.listen(0, '127.0.0.1')
await new Promise((done) => server.once('listening', done))
await answer(async (token) => {
  const url = `http://127.0.0.1:${server.address().port}/`
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` } })
  const body = await response.text()
  if (response.status !== 200) throw new Error(`${response.status} ${body}`)
  return body
})
server.close()
