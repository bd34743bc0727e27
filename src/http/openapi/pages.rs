//! Serves the documentation: `/docs`, `/openapi.json` and `/openapi.yaml`, cacheable and compressed.

use std::{
    io::Write,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::digest;
use flate2::{Compression, write::GzEncoder};
use hyper::body::Bytes;
use poem::{
    Endpoint, Request, Response, Route,
    endpoint::make_sync,
    get,
    http::{HeaderValue, StatusCode, header},
    web::Redirect,
};
#[cfg(feature = "swagger-ui")]
use serde_json::Value;

use super::{Document, Limits};
use crate::domain::locale::parse_weight;

/// The paths of the documentation.
pub const PATHS: [&str; 4] = ["/", "/docs", "/openapi.json", "/openapi.yaml"];

/// Caches may use a page for five minutes without revalidating it. A page changes only with the release and the configuration.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The routes of the documentation. The first request for one of the documents renders all of them. Rendering at start-up would be the
/// largest allocation of a starting node.
pub fn routes(limits: Limits) -> Route {
    let pages = Arc::new(Pages { limits, rendered: OnceLock::new() });
    Route::new()
        .at("/docs", page(&pages, |rendered| &rendered.html))
        .at("/openapi.json", page(&pages, |rendered| &rendered.json))
        .at("/openapi.yaml", page(&pages, |rendered| &rendered.yaml))
        .at("/", get(make_sync(|_| Redirect::see_other("/docs"))))
}

struct Pages {
    limits: Limits,
    rendered: OnceLock<Rendered>,
}

struct Rendered {
    html: Page,
    json: Page,
    yaml: Page,
}

impl Pages {
    fn rendered(&self) -> &Rendered {
        self.rendered.get_or_init(|| {
            let Document { json, yaml, html } = crate::http::document(&self.limits);
            Rendered {
                html: Page::new(html, "text/html; charset=utf-8"),
                json: Page::new(json, "application/json"),
                yaml: Page::new(yaml, "application/yaml"),
            }
        })
    }
}

/// The endpoint of the page that `select` returns.
fn page(pages: &Arc<Pages>, select: fn(&Rendered) -> &Page) -> impl Endpoint + 'static {
    let pages = Arc::clone(pages);
    get(make_sync(move |request| select(pages.rendered()).response(&request)))
}

/// A page that does not change while the service runs, uncompressed and compressed.
struct Page {
    content_type: &'static str,
    /// The first 12 bytes of the page's SHA-256, in hexadecimal: enough for an ETag.
    hash: String,
    plain: Bytes,
    /// `None` if compression failed.
    gzip: Option<Bytes>,
}

impl Page {
    fn new(text: String, content_type: &'static str) -> Self {
        let sha256 = digest::digest(&digest::SHA256, text.as_bytes());
        let hash = sha256.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let gzip = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).ok();
        Self { content_type, hash, plain: text.into(), gzip: gzip.map(Bytes::from) }
    }

    fn response(&self, request: &Request) -> Response {
        let gzip = self.gzip.as_ref().filter(|_| accepts_gzip(request));
        // each encoding needs a validator of its own (RFC 9110, section 8.8.3)
        let suffix = if gzip.is_some() { "-gzip" } else { "" };
        let etag = format!("\"{}{suffix}\"", self.hash);
        let mut response = Response::builder()
            .header(header::ETAG, &etag)
            .header(header::CACHE_CONTROL, CACHE_CONTROL)
            .header(header::VARY, "Accept-Encoding");
        if matches_etag(request, &etag) {
            return response.status(StatusCode::NOT_MODIFIED).finish();
        }
        if gzip.is_some() {
            response = response.header(header::CONTENT_ENCODING, "gzip");
        }
        response.content_type(self.content_type).body(gzip.unwrap_or(&self.plain).clone())
    }
}

/// Whether the client accepts gzip (RFC 9110, section 12.5.3).
pub(in crate::http) fn accepts_gzip(request: &Request) -> bool {
    let values = request.headers().get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameter) = coding.split_once(';').unwrap_or((coding, ""));
        // `gzip;q=0` refuses gzip
        let is_refused = matches!(parse_weight(parameter), Some(Ok(weight)) if weight <= 0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// Whether the client has the version with this ETag. The comparison ignores the mark of a weak ETag, `W/` (RFC 9110, section 13.1.2).
fn matches_etag(request: &Request, etag: &str) -> bool {
    let values = request.headers().get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// The page of `/docs` in a build without the feature `swagger-ui`: links to the document.
#[cfg(not(feature = "swagger-ui"))]
pub(super) fn links() -> String {
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Latchkey API</title>\
     <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"></head><body><h1>Latchkey API</h1>\
     <p>This build has no API browser. The document: <a href=\"/openapi.json\">JSON</a>, \
     <a href=\"/openapi.yaml\">YAML</a>.</p></body></html>\n"
        .to_owned()
}

/// The page of `/docs`: Swagger UI with the completed document, a doctype, a title, a viewport and an empty icon. `swagger_ui` is the page
/// that poem-openapi makes. It contains the document as poem-openapi derives it (`derived`), which `document` replaces.
#[cfg(feature = "swagger-ui")]
pub(super) fn html(swagger_ui: &str, derived: &str, document: &Value) -> String {
    let head = "<title>Latchkey API</title>\n    \
                <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n    \
                <link rel=\"icon\" href=\"data:,\">";
    // A `</script>` in a text of the document must not end the script that contains the document.
    let document = document.to_string().replace("</", "<\\/");
    swagger_ui
        .replace(derived, &document)
        .replacen("<html charset=\"UTF-8\">", "<!doctype html>\n<html lang=\"en\">", 1)
        .replacen("<title>Swagger UI</title>", head, 1)
        .trim_start()
        .to_owned()
}
