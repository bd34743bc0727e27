//! `GET /v1/revocations`: server-sent events (HTML, section 9.2).

use std::{io, sync::Arc, time::Duration};

use futures_util::StreamExt;
use hyper::body::Bytes;
use poem::{
    Body, IntoResponse, Request, Response,
    http::{HeaderValue, header},
    web::Data,
};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::Header,
    payload::Payload,
    registry::{MetaSchema, MetaSchemaRef},
};
use serde::Serialize;

use super::Tag;
use crate::{
    domain::{
        account::ClaimsVersion,
        clock::Timestamp,
        event::{Revocation, RevocationTarget},
        feed::FeedEvent,
        ids::{AccountId, SessionId},
    },
    http::{
        extract::client_auth::ServiceClient,
        feed_connection::{self, Settings},
        problem::{
            Code, Failed, ProblemError, Problems,
            cause::{self, FailureCause},
        },
        shutdown::Stopping,
        takeover::Takeover,
    },
    service::feed::{self, SubscribeError},
    state::{
        AppState,
        feed::{EncodedEvent, SharedEvent},
    },
};

/// The initial capacity for the text of an event, in bytes. It suffices unless an event has a long key id.
const EVENT_CAPACITY: usize = 320;
/// The `Retry-After` if this node has too many subscribers or is not synchronized.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The revocation feed, for services that verify access tokens themselves.
pub struct RevocationsApi;

/// A stream of server-sent events.
struct Events {
    body: Body,
    /// Whether the connection closes after the stream.
    closes_connection: bool,
}

impl Payload for Events {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")))
    }
}

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        let mut response = Response::builder()
            .content_type(Self::CONTENT_TYPE)
            .header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            // nginx would buffer events until it has a page of them
            .header("X-Accel-Buffering", "no")
            .body(self.body);
        if self.closes_connection {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[derive(ApiResponse)]
enum RevocationsResponse {
    /// The events, until the connection closes.
    #[oai(status = 200)]
    Ok(Events),
}

/// The errors of subscribing.
struct RevocationsProblems;

impl Problems for RevocationsProblems {
    const CODES: &'static [Code] = &[Code::InvalidClient];
}

impl From<SubscribeError> for ProblemError {
    fn from(error: SubscribeError) -> Self {
        let text = error.to_string();
        cause::record(match error {
            SubscribeError::NodeFull => FailureCause::Limit { setting: "feed.max_subscribers", error: text },
            SubscribeError::ClientFull => {
                FailureCause::Limit { setting: "feed.max_subscribers_per_client", error: text }
            }
            SubscribeError::NotSynced => FailureCause::Dependency { name: "redis", error: text },
        });
        let detail = match error {
            SubscribeError::NodeFull => {
                "This node has the maximum number of subscribers. Try another node, or try again later."
            }
            SubscribeError::ClientFull => {
                "This client has the maximum number of subscribers on this node. Close one, or try another node."
            }
            SubscribeError::NotSynced => "This node is not synchronized with the revocation log. Try again.",
        };
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(Code::Unavailable, detail) }
    }
}

#[OpenApi(tag = "Tag::Keys")]
impl RevocationsApi {
    /// Subscribe to revocations
    ///
    /// Sends revocations, within milliseconds, to services that verify access tokens themselves, as server-sent events. Each
    /// event has a type and one line of JSON. Ignore unknown types and fields.
    ///
    /// | event | data | meaning |
    /// | --- | --- | --- |
    /// | `snapshot` | `{"retain_seconds"}` | the first event: all revocations that can still affect a valid token follow |
    /// | `resumed` | `{"retain_seconds"}` | the first event after resuming with `Last-Event-ID`: the missed revocations follow |
    /// | `revocation` | `{"kind", …, "reason", "at"}` | a revocation, see below; may be repeated |
    /// | `claims` | `{"account_id", "claims_version", "at"}` | the account's claims, such as its roles, have changed: see below; may be repeated |
    /// | `live` | `{"at"}` | the backlog is complete; events are live from here on |
    /// | `heartbeat` | `{"at"}` | every second: all revocations before `at` have been sent |
    /// | `gap` | `{"detail"}` | revocations were missed; a `snapshot` follows |
    ///
    /// The kinds of revocations, and the access tokens that they revoke:
    ///
    /// - `session`, with `account_id` and `session_id`: those whose `sid` is the session's id.
    /// - `account`, with `account_id`, `before` and perhaps `except_session_id`: those whose `sub` is the account's id and
    ///   whose `session_start` (`auth_time` in tokens without it) is before `before`, in whole seconds, except those whose `sid`
    ///   is `except_session_id`.
    /// - `key`, with `kid`: those whose header names the key.
    ///
    /// After `claims`, refuse the access tokens whose `sub` is the account's id and whose claim `claims_version` is below the
    /// event's, with `error="invalid_token"` and `reason="claims_changed"` in `WWW-Authenticate`: a refresh returns a token with
    /// the current claims. If a token of the account has no such claim, refuse it unless its `iat` is after the second of `at`. Of
    /// several events of an account, the highest version counts.
    ///
    /// Keep every revocation and change of claims for `retain_seconds` after its `at`: no token that it concerns lives longer. After a
    /// `gap` or a `snapshot`, apply the events stored before it until the next `live`. Then you may drop them: the events since the
    /// `snapshot` suffice. If a revocation has an unknown kind, connect again without `Last-Event-ID`.
    ///
    /// For service clients, by HTTP Basic. A disabled client is disconnected.
    ///
    /// `live` and `heartbeat` have an id. Send the last id as `Last-Event-ID` to any node to resume after a disconnection. If no
    /// event arrives for some seconds, you may have missed revocations: use `/oauth2/introspect`. Slow readers are disconnected.
    #[oai(path = "/v1/revocations", method = "get", operation_id = "follow_revocations")]
    async fn revocations(
        &self,
        ServiceClient(client): ServiceClient,
        request: &Request,
        Data(state): Data<&Arc<AppState>>,
        /// The id of the last event that had one, to receive only what happened since.
        #[oai(name = "Last-Event-ID")]
        Header(last_event_id): Header<Option<String>>,
    ) -> Result<RevocationsResponse, Failed<RevocationsProblems>> {
        let Stopping(stop) = Stopping::of(request);
        let retention = feed::retention(state);
        let last_event_id = last_event_id.as_deref().filter(|id| !id.is_empty());
        let subscription =
            feed::subscribe(Arc::clone(state), &client.id, last_event_id).await.map_err(ProblemError::from)?;
        let encode_event = move |event: &FeedEvent| encode(event, retention);
        // Over HTTP/1.1, the handler takes the connection over from hyper and writes to its socket.
        if let Some(takeover) = request.data::<Takeover>() {
            let settings = Settings {
                encode: encode_event,
                max_batch: feed::MAX_BATCH,
                write_timeout: state.config.http.write_timeout,
                stop,
            };
            let client_id = client.id.clone();
            let serve = move |stream| feed_connection::serve(stream, client_id, subscription, settings);
            let body = takeover.clone().body(serve);
            // hyper has given up the connection, so it can't serve another request.
            return Ok(RevocationsResponse::Ok(Events { body, closes_connection: true }));
        }
        // Otherwise, such as over HTTP/2, hyper writes the body.
        let texts = subscription.take_until(stop.cancelled_owned()).ready_chunks(feed::MAX_BATCH).map(move |events| {
            let text_of = |event: &Arc<SharedEvent>| event.encoded(encode_event).text.clone();
            // Usually one event waits, whose text all subscribers share. The texts of several events are copied into one.
            let text = match events.as_slice() {
                [event] => text_of(event),
                events => events.iter().map(text_of).collect::<Vec<_>>().concat().into(),
            };
            Ok::<Bytes, io::Error>(text)
        });
        let body = Body::from_bytes_stream(texts);
        Ok(RevocationsResponse::Ok(Events { body, closes_connection: false }))
    }
}

/// The data of an event, as JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum EventData<'a> {
    Retain { retain_seconds: u64 },
    At { at: Rfc3339 },
    Detail { detail: &'a str },
    Revocation(RevocationData<'a>),
    Claims { account_id: AccountId, claims_version: ClaimsVersion, at: Rfc3339 },
}

#[derive(Serialize)]
struct RevocationData<'a> {
    #[serde(flatten)]
    target: TargetData<'a>,
    reason: &'static str,
    at: Rfc3339,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum TargetData<'a> {
    Session {
        account_id: AccountId,
        session_id: SessionId,
    },
    Account {
        account_id: AccountId,
        before: Rfc3339,
        #[serde(skip_serializing_if = "Option::is_none")]
        except_session_id: Option<SessionId>,
    },
    Key {
        kid: &'a str,
    },
}

/// A time as RFC 3339.
struct Rfc3339(Timestamp);

impl Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'a> EventData<'a> {
    /// The name and the data of the event that reports a revocation or a change of claims.
    fn of(revocation: &'a Revocation) -> (&'static str, Self) {
        let at = Rfc3339(revocation.at);
        let target = match &revocation.target {
            RevocationTarget::Claims { account, version } => {
                return ("claims", Self::Claims { account_id: *account, claims_version: *version, at });
            }
            RevocationTarget::Session { account, session } => {
                TargetData::Session { account_id: *account, session_id: *session }
            }
            RevocationTarget::Account { account, before, except } => {
                TargetData::Account { account_id: *account, before: Rfc3339(*before), except_session_id: *except }
            }
            RevocationTarget::Key { kid } => TargetData::Key { kid },
        };
        ("revocation", Self::Revocation(RevocationData { target, reason: revocation.reason.as_str(), at }))
    }
}

/// Encodes an event in the format of server-sent events, and also as a chunk of a chunked body (RFC 9112, section 7.1).
fn encode(event: &FeedEvent, retention: Duration) -> EncodedEvent {
    let text = encode_text(event, retention);
    let size_line = format!("{:x}\r\n", text.len());
    let chunk = Bytes::from([size_line.as_bytes(), &text, b"\r\n"].concat());
    // The text is a part of the chunk, and shares its memory.
    EncodedEvent { text: chunk.slice(size_line.len()..size_line.len() + text.len()), chunk }
}

/// Encodes an event in the format of server-sent events.
fn encode_text(event: &FeedEvent, retention: Duration) -> Vec<u8> {
    let mut text = Vec::with_capacity(EVENT_CAPACITY);
    let (name, position, data) = match event {
        FeedEvent::Snapshot => ("snapshot", None, EventData::Retain { retain_seconds: retention.as_secs() }),
        FeedEvent::Resumed => ("resumed", None, EventData::Retain { retain_seconds: retention.as_secs() }),
        FeedEvent::Revocation(revocation) => {
            let (name, data) = EventData::of(revocation);
            (name, None, data)
        }
        FeedEvent::Live(position) => ("live", Some(position), EventData::At { at: Rfc3339(position.time()) }),
        FeedEvent::Heartbeat(position) => ("heartbeat", Some(position), EventData::At { at: Rfc3339(position.time()) }),
        FeedEvent::Gap(detail) => ("gap", None, EventData::Detail { detail }),
    };
    text.extend(b"event: ");
    text.extend(name.as_bytes());
    if let Some(position) = position {
        text.extend(b"\nid: ");
        text.extend(position.to_string().as_bytes());
    }
    text.extend(b"\ndata: ");
    if let Err(error) = serde_json::to_writer(&mut text, &data) {
        unreachable!("texts and numbers can be written: {error}")
    }
    text.extend(b"\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{event::EndReason, feed::FeedPosition};

    const ACCOUNT: &str = "0192f0c1-2345-7abc-8def-0123456789ab";
    const SESSION: &str = "5f0c2f0e-7d1c-4a58-9a3b-2f1f6a1e0d42";
    const RETENTION: Duration = Duration::from_secs(310);

    /// Encodes an event, checks its chunk, and returns its text.
    fn checked_text(event: &FeedEvent) -> String {
        let EncodedEvent { chunk, text } = encode(event, RETENTION);
        let size_line = format!("{:x}\r\n", text.len());
        assert_eq!(chunk, [size_line.as_bytes(), &text, b"\r\n"].concat());
        String::from_utf8(text.to_vec()).unwrap()
    }

    /// The text of the event of a revocation at `2026-11-23T04:08:30.325Z`.
    fn checked_revocation_text(target: RevocationTarget, reason: EndReason) -> String {
        let at = Timestamp::from_millis(1_795_406_910_325);
        checked_text(&FeedEvent::Revocation(Arc::new(Revocation { target, reason, at })))
    }

    #[test]
    fn events_are_written_as_server_sent_events() {
        assert_eq!(checked_text(&FeedEvent::Snapshot), "event: snapshot\ndata: {\"retain_seconds\":310}\n\n");
        assert_eq!(checked_text(&FeedEvent::Resumed), "event: resumed\ndata: {\"retain_seconds\":310}\n\n");
        assert_eq!(checked_text(&FeedEvent::Gap("missed")), "event: gap\ndata: {\"detail\":\"missed\"}\n\n");
        let position = FeedPosition::parse("1-1795406910325").unwrap();
        let id_and_data = "id: 1-1795406910325\ndata: {\"at\":\"2026-11-23T04:08:30.325Z\"}\n\n";
        assert_eq!(checked_text(&FeedEvent::Live(position)), format!("event: live\n{id_and_data}"));
        assert_eq!(checked_text(&FeedEvent::Heartbeat(position)), format!("event: heartbeat\n{id_and_data}"));
    }

    #[test]
    fn revocations_are_written_with_their_kind() {
        let (account, session) = (ACCOUNT.parse().unwrap(), SESSION.parse().unwrap());
        let end = "\"at\":\"2026-11-23T04:08:30.325Z\"}\n\n";
        assert_eq!(
            checked_revocation_text(RevocationTarget::Session { account, session }, EndReason::Logout),
            format!(
                "event: revocation\ndata: {{\"kind\":\"session\",\"account_id\":\"{ACCOUNT}\",\
                 \"session_id\":\"{SESSION}\",\"reason\":\"logout\",{end}"
            )
        );
        let before = Timestamp::from_millis(1_795_406_910_000);
        let before_member = "\"before\":\"2026-11-23T04:08:30.000Z\"";
        assert_eq!(
            checked_revocation_text(RevocationTarget::Account { account, before, except: None }, EndReason::Disabled),
            format!(
                "event: revocation\ndata: {{\"kind\":\"account\",\"account_id\":\"{ACCOUNT}\",{before_member},\
                 \"reason\":\"disabled\",{end}"
            )
        );
        assert_eq!(
            checked_revocation_text(
                RevocationTarget::Account { account, before, except: Some(session) },
                EndReason::PasswordChanged
            ),
            format!(
                "event: revocation\ndata: {{\"kind\":\"account\",\"account_id\":\"{ACCOUNT}\",{before_member},\
                 \"except_session_id\":\"{SESSION}\",\"reason\":\"password_changed\",{end}"
            )
        );
        assert_eq!(
            checked_revocation_text(RevocationTarget::Key { kid: "abc".to_owned() }, EndReason::KeyRetired),
            format!("event: revocation\ndata: {{\"kind\":\"key\",\"kid\":\"abc\",\"reason\":\"key_retired\",{end}")
        );
    }

    #[test]
    fn change_of_claims_is_an_event_of_its_own() {
        let claims = RevocationTarget::Claims { account: ACCOUNT.parse().unwrap(), version: ClaimsVersion(3) };
        assert_eq!(
            checked_revocation_text(claims, EndReason::ClaimsChanged),
            format!(
                "event: claims\ndata: {{\"account_id\":\"{ACCOUNT}\",\"claims_version\":3,\
                 \"at\":\"2026-11-23T04:08:30.325Z\"}}\n\n"
            )
        );
    }
}
