//! Checks the URLs of client ID metadata documents, which this service fetches.

use url::{Host, Url};

/// The longest URL of a metadata document, in bytes. Access tokens contain it.
pub const MAX_URL_BYTES: usize = 512;

/// Why a text can't be the URL of a metadata document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentUrlError {
    /// The URL is too long.
    #[error("is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    /// The URL is not an https URL in its normal form.
    #[error("is not an https URL in normal form: without dot segments, user name and fragment")]
    Form,
    /// The host is an IP address, or a name that ends with a dot.
    #[error("has an IP address in place of a host name, or a host name that ends with a dot")]
    Host,
}

/// Checks the URL of a metadata document (draft-ietf-oauth-client-id-metadata-document, section 3).
///
/// Only the normal form of a URL is accepted, so that no two parsers can disagree about it. This excludes dot segments, upper
/// case in the host, default ports, decimal and hexadecimal addresses, and control characters.
///
/// # Errors
/// [`DocumentUrlError`]
pub fn check_document_url(text: &str) -> Result<Url, DocumentUrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(DocumentUrlError::TooLong);
    }
    let url = Url::parse(text).map_err(|_| DocumentUrlError::Form)?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    // The parser normalizes: a text that it changes is not in normal form.
    let is_normal = url.as_str() == text;
    if url.scheme() != "https" || !is_normal || has_user || url.fragment().is_some() {
        return Err(DocumentUrlError::Form);
    }
    match url.host() {
        Some(Host::Domain(name)) if !name.ends_with('.') => Ok(url),
        _ => Err(DocumentUrlError::Host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://app.example.com/client.json";

    #[test]
    fn only_https_url_in_normal_form_with_a_host_name_is_accepted() {
        for text in [URL, "https://app.example.com/", "https://app.example.com:8443/c?v=1", "https://localhost:1/c"] {
            assert_eq!(check_document_url(text).map(String::from), Ok(text.to_owned()));
        }
        for text in [
            "http://app.example.com/c",
            // the normal form of an empty path is /
            "https://app.example.com",
            "https://app.example.com/a/../c",
            "https://app.example.com/a/./c",
            "https://app.example.com/%2e%2e/c",
            "https://app.example.com/c#",
            "https://app.example.com/c#x",
            "https://user@app.example.com/c",
            "https://user:pass@app.example.com/c",
            "https://@app.example.com/c",
            "https://app.example.com:443/c",
            "https://APP.example.com/c",
            "HTTPS://app.example.com/c",
            "https:app.example.com/c",
            "https:///app.example.com/c",
            "https:\\\\app.example.com\\c",
            "https://app.example.com\\@evil.example/c",
            "https://app.example.com/a b",
            "https://app.example.com/a\tb",
            "https://bücher.example/c",
            // forms of 127.0.0.1 that the parser normalizes: decimal, hexadecimal, octal and short
            "https://2130706433/c",
            "https://0x7f.1/c",
            "https://0177.0.0.1/c",
            "https://127.1/c",
            " https://app.example.com/c",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(check_document_url(text), Err(DocumentUrlError::Form), "{text}");
        }
        for text in
            ["https://127.0.0.1/c", "https://[::1]/c", "https://[::ffff:7f00:1]/c", "https://app.example.com./c"]
        {
            assert_eq!(check_document_url(text), Err(DocumentUrlError::Host), "{text}");
        }
        let long = format!("https://app.example.com/{}", "x".repeat(MAX_URL_BYTES));
        assert_eq!(check_document_url(&long), Err(DocumentUrlError::TooLong));
    }
}
