//! The error of reading the metadata or the keys of a client.

use crate::{
    domain::dynamic_client::{DocumentUrlError, MetadataError},
    fetch::FetchError,
};

/// Why the metadata or the keys of a client can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The `client_id` or the `jwks_uri` is not a valid URL of a document.
    #[error("the URL of the document {0}")]
    Url(#[from] DocumentUrlError),
    /// The host is not among those that the operator allows.
    #[error("the host is not in dynamic_clients.allowed_hosts")]
    Host,
    /// Metadata documents are switched off, and with them the requests to hosts that clients name.
    #[error("jwks_uri is not fetched while dynamic_clients.metadata_documents is off")]
    Off,
    /// The document could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The document is not JSON, or ambiguous.
    #[error("the document is not a JSON object, or has a repeated member")]
    Json,
    /// The metadata is invalid.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The keys of the client can't be used.
    #[error("jwks, or the set at jwks_uri, has no usable key or contains a private key")]
    Keys,
}

impl DocumentError {
    /// Whether a retry is useless as long as the document stays the same. Only some failures to fetch it are temporary.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Fetch(error) => error.is_final(),
            _ => true,
        }
    }

    /// The name of the outcome in metrics; `invalid` unless the fetch itself has failed.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Fetch(error) => error.label(),
            _ => "invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error must fit a `client_id` and a `jwks_uri`.
    #[test]
    fn error_of_invalid_url_names_no_member() {
        let text = DocumentError::Url(DocumentUrlError::Host).to_string();
        assert_eq!(
            text,
            "the URL of the document has an IP address in place of a host name, or a host name that ends with a dot"
        );
    }
}
