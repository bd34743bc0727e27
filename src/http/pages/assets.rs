//! `GET /account/assets/{name}`: the stylesheet, the script and the logo, under names that contain a hash of their content.

use std::sync::Arc;

use poem::{
    Request, Response, Result,
    error::NotFoundError,
    handler,
    http::header,
    web::{Data, Path},
};

use crate::{http::openapi::pages::accepts_gzip, state::AppState};

/// Cached for a year, which stands for forever, because the name changes with the content.
const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// A logo in SVG that is opened by itself must not run scripts.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

#[handler]
pub(super) fn show(request: &Request, Data(state): Data<&Arc<AppState>>, Path(name): Path<String>) -> Result<Response> {
    let pages = state.pages.as_ref().ok_or(NotFoundError)?;
    let asset = pages.assets().find(&name).ok_or(NotFoundError)?;
    let gzip = asset.gzip.as_ref().filter(|_| accepts_gzip(request));
    let mut response = Response::builder()
        .header(header::CACHE_CONTROL, CACHE_CONTROL)
        .header(header::VARY, "Accept-Encoding")
        .header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    if gzip.is_some() {
        response = response.header(header::CONTENT_ENCODING, "gzip");
    }
    let body = gzip.unwrap_or(&asset.plain);
    Ok(response.content_type(asset.content_type).body(body.clone()))
}
