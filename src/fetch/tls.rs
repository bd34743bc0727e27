//! The TLS settings of the fetcher: which certificate authorities it trusts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_native_certs::load_native_certs;
use tokio_rustls::TlsConnector;

/// Why a fetcher can't be created.
#[derive(Debug, thiserror::Error)]
pub enum FetcherError {
    /// The file of `dynamic_clients.ca_file` can't be used.
    #[error("dynamic_clients.ca_file: {path}: {why}", path = .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The system has no certificate authority.
    #[error(
        "dynamic_clients.metadata_documents is on, and the system has no certificate authorities (SSL_CERT_FILE): install them \
         (ca-certificates), or name a PEM file in dynamic_clients.ca_file"
    )]
    NoAuthority,
    /// TLS can't be used.
    #[error("TLS can't be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// Builds a connector that trusts the authorities in the PEM file `ca_file` or, without a file, those of the system.
pub(super) fn build_connector(ca_file: Option<&Path>) -> Result<TlsConnector, FetcherError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let ca_file_error = |why: String| FetcherError::CaFile { path: path.to_owned(), why };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| ca_file_error(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| ca_file_error(error.to_string()))?;
                roots.add(certificate).map_err(|error| ca_file_error(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(ca_file_error("it holds no certificate".to_owned()));
            }
        }
        None => {
            // Skips certificates that cannot be read: the others suffice for most hosts.
            roots.add_parsable_certificates(load_native_certs().certs);
            if roots.is_empty() {
                return Err(FetcherError::NoAuthority);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
