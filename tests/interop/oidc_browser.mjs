// The user's browser, which has signed in. It follows redirects with its cookie, until one leads to the app.
import { config } from './lines.mjs'

/** Opens a URL, and returns the URL of the redirect to the app. */
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
