//! The events of the feed: [`Event`].

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use super::sse::Message;
use crate::id::Id;

/// The longest `retain` of an event. A longer `retain_seconds` is shortened to it.
const MAX_RETAIN: Duration = Duration::from_hours(24 * 30);

/// The maximum length of a `kid`, in bytes.
const MAX_KID: usize = 256;

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// All current revocations follow; each stays relevant for `retain`.
    Snapshot { retain: Duration },
    /// The revocations since the event at which the client resumes follow.
    Resumed { retain: Duration },
    /// A revocation or a change of claims, at a time in milliseconds since the Unix epoch.
    Revocation { target: Target, at: i64 },
    /// The snapshot or the resumption is complete.
    Live,
    /// All revocations up to now were sent.
    Heartbeat,
    /// Revocations were lost, for the given reason. A snapshot follows.
    Gap(String),
    /// An unknown event, which is ignored.
    Other,
}

/// The target of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A session.
    Session(Id),
    /// The sessions of an account that began before a time, in seconds since the Unix epoch, except the session `except`.
    Account { account: Id, before: i64, except: Option<Id> },
    /// All tokens that a key signed, by its `kid`.
    Key(String),
    /// The tokens of an account that were issued before its claims reached a version.
    Claims { account: Id, version: u64 },
}

/// The event cannot be parsed, so its revocation would be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidEvent;

#[derive(Deserialize)]
struct Retention {
    retain_seconds: u64,
}

#[derive(Deserialize)]
struct Gap {
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct Revocation {
    kind: String,
    account_id: Option<String>,
    session_id: Option<String>,
    before: Option<String>,
    except_session_id: Option<String>,
    kid: Option<String>,
    at: String,
}

#[derive(Deserialize)]
struct ClaimsChange {
    account_id: String,
    claims_version: u64,
    at: String,
}

/// Parses an event. Unknown events and members are ignored; a revocation of an unknown kind is an error.
pub(crate) fn parse(message: &Message) -> Result<Event, InvalidEvent> {
    let retain = || {
        let retention: Retention = json(message)?;
        Ok(Duration::from_secs(retention.retain_seconds).min(MAX_RETAIN))
    };
    Ok(match message.event.as_str() {
        "snapshot" => Event::Snapshot { retain: retain()? },
        "resumed" => Event::Resumed { retain: retain()? },
        "revocation" => revocation(&json(message)?).ok_or(InvalidEvent)?,
        "claims" => claims_change(&json(message)?).ok_or(InvalidEvent)?,
        "live" => Event::Live,
        "heartbeat" => Event::Heartbeat,
        // The reason is only logged, so the gap counts even if the reason is unreadable.
        "gap" => Event::Gap(json::<Gap>(message).map(|gap| gap.detail).unwrap_or_default()),
        _ => Event::Other,
    })
}

fn json<T: DeserializeOwned>(message: &Message) -> Result<T, InvalidEvent> {
    serde_json::from_str(&message.data).map_err(|_| InvalidEvent)
}

fn revocation(data: &Revocation) -> Option<Event> {
    let id = |text: &Option<String>| Id::parse(text.as_deref()?);
    let target = match data.kind.as_str() {
        "session" => Target::Session(id(&data.session_id)?),
        "account" => {
            // An invalid id is an error: if it counted as missing, the session to be excepted would end.
            let except = match &data.except_session_id {
                Some(session) => Some(Id::parse(session)?),
                None => None,
            };
            // Rounded down to whole seconds, like the times in tokens.
            let before = unix_millis(data.before.as_deref()?)?.div_euclid(1000);
            Target::Account { account: id(&data.account_id)?, before, except }
        }
        "key" => Target::Key(data.kid.clone().filter(|kid| kid.len() <= MAX_KID)?),
        _ => return None,
    };
    Some(Event::Revocation { target, at: unix_millis(&data.at)? })
}

fn claims_change(data: &ClaimsChange) -> Option<Event> {
    let target = Target::Claims { account: Id::parse(&data.account_id)?, version: data.claims_version };
    Some(Event::Revocation { target, at: unix_millis(&data.at)? })
}

/// Milliseconds since the Unix epoch of a time of RFC 3339.
fn unix_millis(text: &str) -> Option<i64> {
    text.parse().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACCOUNT: &str = "01a20697-5375-7a3f-a5d0-8181bd56c321";
    const SESSION: &str = "26f7a44c-4962-415a-8593-3e92483050f8";

    fn parsed(event: &str, data: &str) -> Result<Event, InvalidEvent> {
        parse(&Message { event: event.to_owned(), data: data.to_owned(), id: None })
    }

    #[test]
    fn every_event_is_parsed() {
        let [account, session] = [ACCOUNT, SESSION].map(|id| Id::parse(id).unwrap());
        let time = r#""at":"2026-11-23T04:08:30.325Z""#;
        let at = 1_795_406_910_325;
        let retain = Duration::from_secs(310);
        // the unknown member `more` is ignored
        assert_eq!(parsed("snapshot", r#"{"retain_seconds":310,"more":[]}"#), Ok(Event::Snapshot { retain }));
        assert_eq!(parsed("resumed", r#"{"retain_seconds":310}"#), Ok(Event::Resumed { retain }));
        assert_eq!(parsed("live", "{}"), Ok(Event::Live));
        assert_eq!(parsed("heartbeat", ""), Ok(Event::Heartbeat));
        assert_eq!(parsed("gap", r#"{"detail":"lost"}"#), Ok(Event::Gap("lost".to_owned())));
        assert_eq!(parsed("gap", ""), Ok(Event::Gap(String::new())));
        assert_eq!(parsed("news", "x"), Ok(Event::Other));
        let revocation = |target| Ok(Event::Revocation { target, at });
        let data = format!(
            r#"{{"kind":"session","account_id":"{ACCOUNT}","session_id":"{SESSION}","reason":"logout",{time}}}"#
        );
        assert_eq!(parsed("revocation", &data), revocation(Target::Session(session)));
        let before = r#""before":"2026-11-23T04:08:30Z""#;
        // the time of `at`, in seconds
        let before_secs = 1_795_406_910;
        let data = format!(r#"{{"kind":"account","account_id":"{ACCOUNT}",{before},{time}}}"#);
        assert_eq!(
            parsed("revocation", &data),
            revocation(Target::Account { account, before: before_secs, except: None })
        );
        let data =
            format!(r#"{{"kind":"account","account_id":"{ACCOUNT}",{before},"except_session_id":"{SESSION}",{time}}}"#);
        let except = Some(session);
        assert_eq!(parsed("revocation", &data), revocation(Target::Account { account, before: before_secs, except }));
        let data = format!(r#"{{"kind":"key","kid":"k","reason":"key_retired",{time}}}"#);
        assert_eq!(parsed("revocation", &data), revocation(Target::Key("k".to_owned())));
        let data = format!(r#"{{"account_id":"{ACCOUNT}","claims_version":7,"more":1,{time}}}"#);
        assert_eq!(parsed("claims", &data), revocation(Target::Claims { account, version: 7 }));
    }

    #[test]
    fn malformed_event_is_an_error() {
        let time = r#""at":"2026-11-23T04:08:30.325Z""#;
        for data in [
            String::new(),
            "[]".to_owned(),
            // an unknown kind
            format!(r#"{{"kind":"world",{time}}}"#),
            // a session without `session_id`, with an invalid one, without a time, and with an invalid one
            format!(r#"{{"kind":"session",{time}}}"#),
            format!(r#"{{"kind":"session","session_id":"x",{time}}}"#),
            format!(r#"{{"kind":"session","session_id":"{SESSION}"}}"#),
            format!(r#"{{"kind":"session","session_id":"{SESSION}","at":"now"}}"#),
            // an account without `before`, and with an invalid exception
            format!(r#"{{"kind":"account","account_id":"{ACCOUNT}",{time}}}"#),
            format!(
                r#"{{"kind":"account","account_id":"{ACCOUNT}","before":"2026-11-23T04:08:30Z","except_session_id":"x",{time}}}"#
            ),
            format!(r#"{{"kind":"key","kid":"{}",{time}}}"#, "k".repeat(MAX_KID + 1)),
        ] {
            assert_eq!(parsed("revocation", &data), Err(InvalidEvent), "{data}");
        }
        for data in [
            String::new(),
            format!(r#"{{"account_id":"x","claims_version":7,{time}}}"#),
            format!(r#"{{"account_id":"{ACCOUNT}","claims_version":-1,{time}}}"#),
            format!(r#"{{"account_id":"{ACCOUNT}","claims_version":1.5,{time}}}"#),
            format!(r#"{{"account_id":"{ACCOUNT}","claims_version":true,{time}}}"#),
            format!(r#"{{"account_id":"{ACCOUNT}",{time}}}"#),
            format!(r#"{{"account_id":"{ACCOUNT}","claims_version":7}}"#),
        ] {
            assert_eq!(parsed("claims", &data), Err(InvalidEvent), "{data}");
        }
        assert_eq!(parsed("snapshot", "{}"), Err(InvalidEvent));
        assert_eq!(parsed("resumed", r#"{"retain_seconds":-1}"#), Err(InvalidEvent));
    }

    proptest! {
        #[test]
        fn parse_never_panics(event in "(snapshot|resumed|revocation|claims|gap)", data in "\\PC*") {
            drop(parsed(&event, &data));
        }
    }
}
