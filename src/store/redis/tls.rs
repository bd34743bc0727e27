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
    let authorities = trusted_authorities(settings.tls_ca.as_deref())?;
    let builder = ClientConfig::builder().with_root_certificates(authorities);
    let config = match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert_path), Some(key_path)) => {
            let chain = read_certificates("redis.tls_cert", cert_path)?;
            let key =
                PrivateKeyDer::from_pem_file(key_path).map_err(|error| unusable("redis.tls_key", key_path, &error))?;
            // fails if the key is not that of the certificate
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable("redis.tls_cert", cert_path, &error))?
        }
        // neither is set: the configuration refuses one without the other
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConfig::from(TlsConnector::from(config)))
}

/// The trusted authorities: those of the file `ca_path`, or else those of the system.
fn trusted_authorities(ca_path: Option<&Path>) -> Result<RootCertStore, RedisError> {
    let mut authorities = RootCertStore::empty();
    if let Some(ca_path) = ca_path {
        for certificate in read_certificates("redis.tls_ca", ca_path)? {
            authorities.add(certificate).map_err(|error| unusable("redis.tls_ca", ca_path, &error))?;
        }
    } else {
        // some of the system's certificates may be unreadable; the others suffice
        authorities.add_parsable_certificates(load_native_certs().certs);
    }
    if authorities.is_empty() {
        let detail =
            "is empty, and the system has no certificate authorities (SSL_CERT_FILE); name a PEM file".to_owned();
        return Err(RedisError::Setting { name: "redis.tls_ca", detail });
    }
    Ok(authorities)
}

/// Reads the PEM file that a setting names.
fn read_certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RedisError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(setting, path, &error))? {
        certificates.push(certificate.map_err(|error| unusable(setting, path, &error))?);
    }
    if certificates.is_empty() {
        return Err(unusable(setting, path, &"it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(name: &'static str, path: &Path, why: &dyn std::fmt::Display) -> RedisError {
    RedisError::Setting { name, detail: format!("{} can't be used: {why}", path.display()) }
}
