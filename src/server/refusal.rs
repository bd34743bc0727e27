//! Turns hyper's responses to malformed requests into problems (RFC 9457), the format of every other error. Malformed requests
//! never reach the endpoint: hyper answers them itself, with an empty response.

use crate::{
    domain::entropy::Entropy,
    http::{
        middleware::request_context::REQUEST_ID,
        problem::{CONTENT_TYPE, Code, ProblemError},
    },
};

/// Returns the response to send in place of `written` if hyper made `written` itself: it then has no body and the status 400,
/// 414 or 431. Responses of the endpoint with these statuses are never empty.
pub(super) fn rewrite_hyper_error(written: &[u8]) -> Option<Vec<u8>> {
    let head = written.strip_prefix(b"HTTP/1.1 ")?.strip_suffix(b"\r\n\r\n")?;
    let head = str::from_utf8(head).ok()?;
    let problem = match head.get(..4)? {
        "400 " => ProblemError::new(Code::MalformedRequest, "The request is not valid HTTP."),
        "414 " | "431 " => ProblemError::new(Code::HeadersTooLarge, "The request line or the headers are too large."),
        _ => return None,
    };
    let mut fields = head.split("\r\n");
    let has_empty_body = fields.clone().any(|field| field.eq_ignore_ascii_case("content-length: 0"));
    if !has_empty_body {
        return None;
    }
    // keeps hyper's date; without one, an empty field takes its line in `response`
    let date = fields.find(|field| field.to_ascii_lowercase().starts_with("date: ")).unwrap_or("date:");
    // the request has no id yet, since it did not reach the endpoint
    let id = Entropy::system().uuid().to_string();
    let status = problem.code.status();
    tracing::info!(
        target: "latchkey::request",
        request_id = id,
        route = "unreadable",
        status = status.as_u16(),
        "request refused: it is not valid HTTP, or its request line or headers are too large (http.max_header)"
    );
    let body = problem.body(&id);
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {CONTENT_TYPE}\r\n{REQUEST_ID}: {id}\r\nx-content-type-options: nosniff\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {length}\r\n{date}\r\n\r\n{body}"
    );
    Some(response.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_error_responses_are_replaced() {
        let rewrite = |status: &str, length: u32| {
            let head =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\ndate: today\r\n\r\n");
            rewrite_hyper_error(head.as_bytes()).map(|answer| String::from_utf8(answer).unwrap())
        };
        let large = rewrite("431 Request Header Fields Too Large", 0).unwrap();
        assert!(large.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{large}");
        assert!(large.contains("\r\ndate: today\r\n\r\n{"), "{large}");
        assert!(large.contains("headers_too_large"), "{large}");
        assert!(rewrite("400 Bad Request", 0).unwrap().contains("malformed_request"));
        assert_eq!(rewrite("400 Bad Request", 17), None, "the endpoint's response has a body");
        assert_eq!(rewrite("200 OK", 0), None);
        assert_eq!(rewrite_hyper_error(b"HTTP/1.1 400 Bad"), None, "the head is incomplete");
        assert_eq!(rewrite_hyper_error(b""), None);
    }
}
