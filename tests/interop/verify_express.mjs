// Verifies access tokens with express-oauth2-jwt-bearer, by calls of an Express app.
import express from 'express'
import { auth } from 'express-oauth2-jwt-bearer'
import { answer, config } from './lines.mjs'

const app = express()
app.use(auth({ issuerBaseURL: config.issuer, audience: config.audience, strict: true, ...config.express }))
app.get('/', (request, response) => response.send(request.auth.payload.sub))
app.use((error, request, response, _next) => {
  response.set(error.headers ?? {}).status(error.status ?? 500).send(error.message)
})
const listening = app.listen(0, '127.0.0.1')
await new Promise((done) => listening.once('listening', done))
await answer(async (token) => {
  const url = `http://127.0.0.1:${listening.address().port}/`
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` } })
  const body = await response.text()
  if (response.status !== 200) throw new Error(`${response.status} ${body}`)
  return body
})
listening.close()
