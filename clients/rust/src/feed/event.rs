//! What the feed says, and what it means.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use super::sse::Message;
use crate::{id::Id, rfc3339};

/// No revocation matters longer than this, whatever the feed says.
const MAX_RETAIN: Duration = Duration::from_hours(24 * 30);

/// The longest name of a key.
const MAX_KID: usize = 256;

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// What follows is all that matters. How long a revocation does.
    Snapshot { retain: Duration },
    /// What was missed follows.
    Resumed { retain: Duration },
    /// Something was revoked, at a time in milliseconds since the Unix epoch.
    Revoked { what: Revoked, at: i64 },
    /// All was told.
    Live,
    /// All was told up to now.
    Heartbeat,
    /// Something was lost.
    Gap(String),
    /// An event that this version doesn't know, and needn't.
    Other,
}

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// A session.
    Session(Id),
    /// The sessions of an account that began before a time, in seconds since the Unix epoch, but perhaps one.
    Account { account: Id, before: i64, except: Option<Id> },
    /// All that a key signed.
    Key(String),
}

/// It can't be understood: what it tells would be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood;

#[derive(Deserialize)]
struct Opening {
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

/// Reads an event. Unknown ones and unknown members are left alone; a revocation of an unknown kind isn't.
pub(crate) fn read(message: &Message) -> Result<Event, NotUnderstood> {
    let retain = || {
        let opening: Opening = json(message)?;
        Ok(Duration::from_secs(opening.retain_seconds).min(MAX_RETAIN))
    };
    Ok(match message.event.as_str() {
        "snapshot" => Event::Snapshot { retain: retain()? },
        "resumed" => Event::Resumed { retain: retain()? },
        "revocation" => revocation(&json(message)?).ok_or(NotUnderstood)?,
        "live" => Event::Live,
        "heartbeat" => Event::Heartbeat,
        "gap" => Event::Gap(json::<Gap>(message).map(|gap| gap.detail).unwrap_or_default()),
        _ => Event::Other,
    })
}

fn json<T: DeserializeOwned>(message: &Message) -> Result<T, NotUnderstood> {
    serde_json::from_str(&message.data).map_err(|_| NotUnderstood)
}

fn revocation(told: &Revocation) -> Option<Event> {
    let id = |text: &Option<String>| Id::parse(text.as_deref()?);
    let what = match told.kind.as_str() {
        "session" => Revoked::Session(id(&told.session_id)?),
        "account" => {
            let except = match &told.except_session_id {
                Some(session) => Some(Id::parse(session)?),
                None => None,
            };
            // whole seconds, as `auth_time` is
            let before = rfc3339::parse(told.before.as_deref()?)?.div_euclid(1000);
            Revoked::Account { account: id(&told.account_id)?, before, except }
        }
        "key" => Revoked::Key(told.kid.clone().filter(|kid| kid.len() <= MAX_KID)?),
        _ => return None,
    };
    Some(Event::Revoked { what, at: rfc3339::parse(&told.at)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "01a20697-5375-7a3f-a5d0-8181bd56c321";
    const OTHER: &str = "26f7a44c-4962-415a-8593-3e92483050f8";

    fn told(event: &str, data: &str) -> Result<Event, NotUnderstood> {
        read(&Message { event: event.to_owned(), data: data.to_owned(), id: None })
    }

    #[test]
    fn every_event_is_understood() {
        let [one, other] = [ONE, OTHER].map(|id| Id::parse(id).unwrap());
        let at = 1_795_406_910_325;
        let retain = Duration::from_secs(310);
        assert_eq!(told("snapshot", r#"{"retain_seconds":310,"more":[]}"#), Ok(Event::Snapshot { retain }));
        assert_eq!(told("resumed", r#"{"retain_seconds":310}"#), Ok(Event::Resumed { retain }));
        assert_eq!(told("live", "{}"), Ok(Event::Live));
        assert_eq!(told("heartbeat", ""), Ok(Event::Heartbeat));
        assert_eq!(told("gap", r#"{"detail":"lost"}"#), Ok(Event::Gap("lost".to_owned())));
        assert_eq!(told("gap", ""), Ok(Event::Gap(String::new())));
        assert_eq!(told("news", "x"), Ok(Event::Other));
        let time = r#""at":"2026-11-23T04:08:30.325Z""#;
        let revoked = |what| Ok(Event::Revoked { what, at });
        let data =
            format!(r#"{{"kind":"session","account_id":"{ONE}","session_id":"{OTHER}","reason":"logout",{time}}}"#);
        assert_eq!(told("revocation", &data), revoked(Revoked::Session(other)));
        let before = r#""before":"2026-11-23T04:08:30Z""#;
        let (account, before_secs) = (one, 1_795_406_910);
        let data = format!(r#"{{"kind":"account","account_id":"{ONE}",{before},{time}}}"#);
        assert_eq!(told("revocation", &data), revoked(Revoked::Account { account, before: before_secs, except: None }));
        let data =
            format!(r#"{{"kind":"account","account_id":"{ONE}",{before},"except_session_id":"{OTHER}",{time}}}"#);
        let except = Some(other);
        assert_eq!(told("revocation", &data), revoked(Revoked::Account { account, before: before_secs, except }));
        let data = format!(r#"{{"kind":"key","kid":"k","reason":"key_retired",{time}}}"#);
        assert_eq!(told("revocation", &data), revoked(Revoked::Key("k".to_owned())));
    }

    #[test]
    fn a_revocation_that_is_not_understood_is_not_passed_over() {
        let time = r#""at":"2026-11-23T04:08:30.325Z""#;
        for data in [
            String::new(),
            "[]".to_owned(),
            format!(r#"{{"kind":"world",{time}}}"#),
            format!(r#"{{"kind":"session",{time}}}"#),
            format!(r#"{{"kind":"session","session_id":"x",{time}}}"#),
            format!(r#"{{"kind":"session","session_id":"{ONE}"}}"#),
            format!(r#"{{"kind":"session","session_id":"{ONE}","at":"now"}}"#),
            format!(r#"{{"kind":"account","account_id":"{ONE}",{time}}}"#),
            format!(
                r#"{{"kind":"account","account_id":"{ONE}","before":"2026-11-23T04:08:30Z","except_session_id":"x",{time}}}"#
            ),
            format!(r#"{{"kind":"key","kid":"{}",{time}}}"#, "k".repeat(300)),
        ] {
            assert_eq!(told("revocation", &data), Err(NotUnderstood), "{data}");
        }
        assert_eq!(told("snapshot", "{}"), Err(NotUnderstood));
        assert_eq!(told("resumed", r#"{"retain_seconds":-1}"#), Err(NotUnderstood));
    }

    proptest! {
        #[test]
        fn nothing_is_too_much_for_it(event in "(snapshot|resumed|revocation|gap)", data in "\\PC*") {
            drop(told(&event, &data));
        }
    }
}
