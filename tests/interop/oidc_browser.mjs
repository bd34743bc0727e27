// The browser of a signed-in user: follows redirects with the session's cookie, until one leads to the app.
import { config } from './lines.mjs'

/** Opens a URL, and returns the URL of the redirect to the app, which the browser does not open. */
export async function browse(url) {
  for (let hops = 0; hops < 10; hops += 1) {
    const response = await fetch(url, { redirect: 'manual', headers: { cookie: config.cookie } })
    const location = response.headers.get('location')
    if (!location) throw new Error(`${response.status} of ${url}: ${await response.text()}`)
    url = new URL(location, url)
    if (url.href.startsWith(config.redirect_uri)) return url
  }
  throw new Error(`too many redirects: ${url}`)
}
