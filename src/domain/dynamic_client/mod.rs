//! Clients that no operator has registered: apps with a metadata document at the URL that is their `client_id`
//! (draft-ietf-oauth-client-id-metadata-document), and apps that have registered themselves (RFC 7591).

mod client;
mod document_url;
mod metadata;
mod name;
mod read;

use url::Url;

pub use self::{
    client::DynamicClientParts,
    document_url::{DocumentUrlError, MAX_URL_BYTES, check_document_url},
    metadata::ClientMetadata,
    read::MetadataError,
};
use super::client::ClientId;

/// The number of base64url characters of the digest in a [reference](DynamicClient::reference).
const DIGEST_CHARS: usize = 32;

/// Where the metadata of a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicSource {
    /// The document at the URL that is the `client_id`.
    Document,
    /// The `client_id` itself: it contains the metadata, with a MAC of this service.
    Registration,
}

impl DynamicSource {
    /// The prefix of the [references](DynamicClient::reference) to clients of this source.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Document => "url.",
            Self::Registration => "dcr.",
        }
    }
}

/// The properties that a dynamic client, which no operator has registered, has in addition to those of every client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicClient {
    /// The `client_id` that the client sends, and that tokens and lists show: up to 2 kB. The store and the sessions hold
    /// [`Client::id`](crate::domain::client::Client::id) instead, which contains a digest of the `client_id`.
    pub client_id: String,
    /// Where the metadata comes from.
    pub source: DynamicSource,
    /// The metadata that Latchkey uses.
    pub metadata: ClientMetadata,
}

impl DynamicClient {
    /// Whether the id of a client is a [reference](Self::reference) to a dynamic client: the prefix of its source, and a digest in
    /// 32 characters of base64url. Operators cannot register a client with such an id.
    pub fn is_reference(id: &str) -> bool {
        let has_form_of = |source: DynamicSource| {
            let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let digest = id.strip_prefix(source.prefix());
            digest.is_some_and(|digest| digest.len() == DIGEST_CHARS && digest.bytes().all(is_base64url))
        };
        has_form_of(DynamicSource::Document) || has_form_of(DynamicSource::Registration)
    }

    /// The reference, which is a short id, to the client of `source` whose `client_id` has this digest.
    ///
    /// # Panics
    /// If the digest is not base64url.
    pub fn reference(source: DynamicSource, digest: &str) -> ClientId {
        ClientId::parse(&format!("{}{digest}", source.prefix())).expect("a prefix with base64url is a client id")
    }

    /// The host that serves the metadata document and answers for the app. None for an app that has registered itself.
    pub fn host(&self) -> Option<String> {
        match self.source {
            DynamicSource::Document => Url::parse(&self.client_id).ok()?.host_str().map(str::to_owned),
            DynamicSource::Registration => None,
        }
    }
}
