//! TLS to Redis: trusted authorities and the client certificate.

use std::path::Path;

use fred::{
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    rustls_native_certs::load_native_certs,
    types::config::{TlsConfig, TlsConnector},
};

use super::connection::RedisError;
use crate::config::RedisSettings;

/// The TLS configuration that the settings describe.
///
/// # Errors
/// [`RedisError::Setting`], with the name of the setting whose file is unusable.
pub(super) fn client_config(settings: &RedisSettings) -> Result<TlsConfig, RedisError> {
    let builder = ClientConfig::builder().with_root_certificates(roots(settings.tls_ca.as_deref())?);
    let config = match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("redis.tls_cert", cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("redis.tls_key", key, &error))?;
            let paired = builder.with_client_auth_cert(chain, key);
            paired.map_err(|error| unusable("redis.tls_cert", cert, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConfig::from(TlsConnector::from(config)))
}

/// The trusted authorities: those of the file `ca`, or else those of the system.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, RedisError> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        for certificate in certificates("redis.tls_ca", ca)? {
            roots.add(certificate).map_err(|error| unusable("redis.tls_ca", ca, &error))?;
        }
    } else {
        roots.add_parsable_certificates(load_native_certs().certs);
    }
    if roots.is_empty() {
        let detail =
            "is empty, and the system has no certificate authorities (SSL_CERT_FILE); name a PEM file".to_owned();
        return Err(RedisError::Setting { name: "redis.tls_ca", detail });
    }
    Ok(roots)
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RedisError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unusable(setting, path, &error))?;
    if certificates.is_empty() {
        return Err(unusable(setting, path, &"it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(name: &'static str, path: &Path, why: &dyn std::fmt::Display) -> RedisError {
    RedisError::Setting { name, detail: format!("{} can't be used: {why}", path.display()) }
}
