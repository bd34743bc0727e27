//! Classifies the errors of fred, the Redis client, and describes them for operators without Rust's debug output.

use fred::error::{Error, ErrorKind};

/// Says why a command or a connection failed, and names the setting to check.
pub(super) fn reason(error: &Error) -> String {
    let details = error.details();
    match error.kind() {
        ErrorKind::Timeout => "no answer in time (redis.command_timeout)".to_owned(),
        ErrorKind::Canceled => "the connection was closed before the answer".to_owned(),
        ErrorKind::Auth => {
            format!("the server refused the user or password of redis.url: {}", without_script_line(details))
        }
        ErrorKind::IO | ErrorKind::Tls => io_reason(details),
        _ if is_too_old(details) => {
            "the server does not know HELLO and so is older than Redis 6.0; Latchkey needs Redis 6.0 or newer, or Valkey"
                .to_owned()
        }
        _ if details.starts_with("NOPERM") => {
            format!("the Redis user lacks a right: {}", without_script_line(details))
        }
        _ => without_script_line(details),
    }
}

/// Whether a [`reason`] quotes an error of the server. Such an error begins with a code in upper case.
pub(super) fn is_answer(reason: &str) -> bool {
    let code = reason.split(' ').next().unwrap_or_default();
    let has_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
    has_code || reason.contains("NOPERM")
}

/// Whether an error says that the server takes no writes, because it is a replica or has lost its master. A new connection through
/// the same address may reach the new master.
pub(super) fn is_demoted(details: &str) -> bool {
    // Redis 6 puts the line of the script before the error, so the text may be anywhere in `details`.
    details.contains("READONLY You") || details.contains("MASTERDOWN Link")
}

/// Whether an error says that an ACL denies the command, or that the server does not know it, because it was renamed.
pub(super) fn is_command_refused(details: &str) -> bool {
    details.contains("NOPERM") || details.contains("unknown command")
}

/// Whether an error says that no server listens at the address: a refused connection, or a Unix socket that does not exist. An
/// immediate retry is likely to fail.
pub(super) fn is_refusal(error: &Error) -> bool {
    let details = error.details();
    matches!(error.kind(), ErrorKind::IO)
        && ["kind: ConnectionRefused", "kind: NotFound"].iter().any(|kind| details.contains(kind))
}

/// Whether an error says that the server does not know HELLO, the first command of every connection.
fn is_too_old(details: &str) -> bool {
    details.contains("unknown command") && details.to_ascii_uppercase().contains("HELLO")
}

/// The reason in the debug output of an `io::Error`, which is all that fred keeps of it.
fn io_reason(details: &str) -> String {
    // the names of rustls' errors in the debug output
    const TLS: [(&str, &str); 5] = [
        ("UnknownIssuer", "the server's certificate is signed by an unknown authority (redis.tls_ca)"),
        ("NotValidForName", "the server's certificate is for another host name"),
        ("Expired", "the server's certificate has expired"),
        ("CertificateRequired", "the server requires a client certificate (redis.tls_cert, redis.tls_key)"),
        ("InvalidContentType", "the server does not speak TLS on this port (redis.url)"),
    ];
    if let Some((_, text)) = TLS.iter().find(|(name, _)| details.contains(name)) {
        return (*text).to_owned();
    }
    if details.contains("AlertReceived") {
        return "the server ended the TLS handshake; does it require a client certificate (redis.tls_cert)?".to_owned();
    }
    // `Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }`, or `Custom { kind: …, error: "…" }`
    let after_quote = details.split_once("message: \"").or_else(|| details.split_once("error: \""));
    let text = match after_quote.and_then(|(_, rest)| rest.split('"').next()) {
        Some(message) => message,
        // `UnexpectedEof`, for example
        None if details.contains("Eof") => "the server closed the connection",
        None => details,
    };
    lower_first(text.trim_end_matches(['.', ' ']))
}

/// Removes the script's name and line number, which Redis 6 puts before an error, and Redis 7 after it:
/// `… @user_script:17: @user_script: 17: -READONLY …`, `READONLY … script: abc, on @user_script:17.`
fn without_script_line(text: &str) -> String {
    // Redis 6: the error follows `@user_script: 17: -`.
    let error = match text.rsplit_once("@user_script: ") {
        Some((_, rest)) => rest.split_once(": -").map_or(rest, |(_line, error)| error),
        None => text,
    };
    // Redis 7: the error ends before the first of these.
    let ends = [error.find(" script: "), error.find(", on @user_script")];
    let end = ends.into_iter().flatten().min().unwrap_or(error.len());
    error[..end].trim_end_matches(['.', ' ']).to_owned()
}

/// The text with its first letter in lower case: the caller's log line continues with it.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(kind: ErrorKind, details: &'static str) -> String {
        reason(&Error::new(kind, details))
    }

    #[test]
    fn reason_of_io_error_has_no_debug_output() {
        let refused = "Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }";
        assert_eq!(reason_of(ErrorKind::IO, refused), "connection refused");
        let lookup = "Custom { kind: Uncategorized, error: \"failed to lookup address information: Name or service not known\" }";
        assert_eq!(reason_of(ErrorKind::IO, lookup), "failed to lookup address information: Name or service not known");
        let issuer = "Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }";
        assert!(reason_of(ErrorKind::IO, issuer).contains("redis.tls_ca"));
    }

    #[test]
    fn is_answer_accepts_errors_of_the_server_only() {
        let answers = ["LOADING Redis is loading the dataset in memory", "BUSY Redis is busy running a script"];
        assert!(answers.into_iter().all(|details| is_answer(&reason_of(ErrorKind::Unknown, details))));
        assert!(is_answer(&reason_of(ErrorKind::Unknown, "NOPERM this user has no permissions")));
        assert!(!is_answer(&reason_of(ErrorKind::Timeout, "")));
        let refused = "Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }";
        assert!(!is_answer(&reason_of(ErrorKind::IO, refused)));
    }

    #[test]
    fn is_refusal_accepts_refused_connection_and_missing_socket_only() {
        let is_refusal_of = |kind, details: &'static str| is_refusal(&Error::new(kind, details));
        let refused = "Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }";
        let missing = "Os { code: 2, kind: NotFound, message: \"No such file or directory\" }";
        assert!(is_refusal_of(ErrorKind::IO, refused));
        assert!(is_refusal_of(ErrorKind::IO, missing));
        let reset = "Os { code: 104, kind: ConnectionReset, message: \"Connection reset by peer\" }";
        assert!(!is_refusal_of(ErrorKind::IO, reset));
        assert!(!is_refusal_of(ErrorKind::Timeout, refused), "another kind of error");
    }

    #[test]
    fn reason_of_unknown_hello_names_the_oldest_supported_version() {
        // the texts of different versions of Redis, and the command in lower case
        for details in [
            "ERR unknown command `HELLO`, with args beginning with: `3`, ",
            "ERR unknown command 'HELLO'",
            "ERR unknown command 'hello', with args beginning with: '3' ",
        ] {
            assert!(reason_of(ErrorKind::Unknown, details).contains("older than Redis 6.0"), "{details}");
        }
    }

    #[test]
    fn reason_of_script_error_omits_the_line_of_the_script() {
        let error = "READONLY You can't write against a read only replica. script: abc, on @user_script:17.";
        assert_eq!(reason_of(ErrorKind::Unknown, error), "READONLY You can't write against a read only replica");
        assert!(is_demoted(error));
        assert!(!is_demoted("OOM command not allowed"));
    }
}
