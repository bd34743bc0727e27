//! Entries of the streams of revocations, as they are read from a stream or heard on the channel.

use std::{collections::HashMap, fmt};

use crate::{
    domain::{
        clock::Timestamp,
        event::{Reason, Revocation, RevocationTarget},
        ids::{AccountId, SessionId},
    },
    store::redis::{connection::RedisError, key},
};

/// The id of an entry: when it was appended by Redis' clock, in milliseconds, and a number among those of the same
/// millisecond. Of a stream without entries, zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) millis: u64,
    pub(super) number: u64,
}

impl Position {
    /// Reads an id as Redis writes it; an empty text is that of no entry.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let (millis, number) = text.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, number: number.parse().ok()? })
    }

    /// Whether there is no entry.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) revocation: Revocation,
}

impl Entry {
    /// Reads what was published: entries, of each the position of the one before and who waits for the others to hear it;
    /// nothing in place of one that can't be read.
    pub(super) fn heard(message: &str) -> impl Iterator<Item = Option<(Self, Position, &str)>> {
        let mut lines = message.split('\n').peekable();
        std::iter::from_fn(move || {
            lines.peek()?;
            let (position, before) = (lines.next(), lines.next());
            let (event, from) = ([lines.next(), lines.next(), lines.next(), lines.next()], lines.next());
            let read = || {
                let position = Position::parse(position?)?;
                Some((Self { position, revocation: revocation(event)? }, Position::parse(before?)?, from?))
            };
            Some(read())
        })
    }

    /// Reads an entry of a stream; of one that can't be read, such as one of a kind that only a newer release knows, where
    /// it stands.
    pub(super) fn read(id: &str, fields: &HashMap<String, String>) -> Result<Result<Self, Position>, RedisError> {
        let place = Position::parse(id);
        let position =
            place.ok_or_else(|| RedisError::Unexpected(format!("an event's id that can't be read, {id}")))?;
        let read = || {
            let mut lines = fields.get("e")?.split('\n');
            revocation([lines.next(), lines.next(), lines.next(), lines.next()])
        };
        Ok(read().map(|revocation| Self { position, revocation }).ok_or(position))
    }

    /// The bucket in whose stream it stands.
    pub(super) fn bucket(&self) -> usize {
        match self.revocation.target {
            RevocationTarget::Session { account, .. } | RevocationTarget::Account { account, .. } => {
                key::bucket(account)
            }
            RevocationTarget::Key { .. } => KEYS_BUCKET,
        }
    }
}

/// The bucket in whose stream the revocations of signing keys stand.
pub(super) const KEYS_BUCKET: usize = 0;

/// The text of the end of one session, as the scripts write those of others (`event_of` in `lua/lib.lua`).
pub(in crate::store::redis) fn session_ended(
    account: AccountId,
    session: SessionId,
    reason: Reason,
    at: Timestamp,
) -> String {
    format!("{account}\n{session}\n{}\n{}", reason.as_str(), at.as_millis())
}

/// Reads an event's lines.
fn revocation(event: [Option<&str>; 4]) -> Option<Revocation> {
    let [Some(account), Some(session), Some(reason), Some(at)] = event else { return None };
    let at = Timestamp::from_millis(at.parse().ok()?);
    let reason = Reason::parse(reason)?;
    let account = || account.parse::<AccountId>().ok();
    let before = Timestamp::from_millis(at.as_secs() * 1000);
    let target = match session.rsplit_once(' ') {
        None if session == "all" => RevocationTarget::Account { account: account()?, before, except: None },
        None => RevocationTarget::Session { account: account()?, session: session.parse().ok()? },
        Some(("all but", except)) => {
            RevocationTarget::Account { account: account()?, before, except: Some(except.parse().ok()?) }
        }
        Some(("key", kid)) => RevocationTarget::Key { kid: kid.to_owned() },
        Some(_) => return None,
    };
    Some(Revocation { target, reason, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "0192f0c1-2345-7abc-8def-0123456789ab";
    const SESSION: &str = "5f0c2f0e-7d1c-4a58-9a3b-2f1f6a1e0d42";

    fn target(session: &str) -> Option<RevocationTarget> {
        let message = format!("7-1\n\n{ACCOUNT}\n{session}\nlogout\n1800000000123\nnode 7");
        let [heard] = Entry::heard(&message).collect::<Vec<_>>().try_into().ok()?;
        let (entry, before, from) = heard?;
        assert_eq!(from, "node 7");
        assert_eq!(entry.position, Position { millis: 7, number: 1 });
        assert!(before.is_none());
        assert_eq!(entry.revocation.at, Timestamp::from_millis(1_800_000_000_123));
        Some(entry.revocation.target)
    }

    #[test]
    fn every_kind_is_read() {
        let (account, session) = (ACCOUNT.parse().unwrap(), SESSION.parse().unwrap());
        let before = Timestamp::from_millis(1_800_000_000_000);
        assert_eq!(target(SESSION), Some(RevocationTarget::Session { account, session }));
        assert_eq!(target("all"), Some(RevocationTarget::Account { account, before, except: None }));
        let all_but = format!("all but {SESSION}");
        assert_eq!(target(&all_but), Some(RevocationTarget::Account { account, before, except: Some(session) }));
        assert_eq!(target("key abc"), Some(RevocationTarget::Key { kid: "abc".to_owned() }));
        assert_eq!(target("some of abc"), None);
        assert_eq!(target("abc"), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let (account, session) = (ACCOUNT.parse().unwrap(), SESSION.parse().unwrap());
        let at = Timestamp::from_millis(1_800_000_000_123);
        let text = session_ended(account, session, Reason::Logout, at);
        let read = Entry::read("7-1", &HashMap::from([("e".to_owned(), text)])).unwrap().unwrap();
        let target = RevocationTarget::Session { account, session };
        assert_eq!(read.revocation, Revocation { target, reason: Reason::Logout, at });
    }

    #[test]
    fn several_are_read_and_what_is_not_is_passed_over() {
        let one = format!("7-1\n\n{ACCOUNT}\n{SESSION}\nlogout\n5\n");
        let newer = format!("7-2\n7-1\n{ACCOUNT}\n{SESSION}\nof a newer release\n5\nnode 1");
        let message = format!("{one}\n{newer}\n{one}\nsomething");
        let heard: Vec<_> = Entry::heard(&message).map(|heard| heard.map(|(_, _, from)| from)).collect();
        assert_eq!(heard, [Some(""), None, Some(""), None]);
    }

    #[test]
    fn positions_are_ordered_by_time_and_number() {
        let position = |text| Position::parse(text).unwrap();
        assert!(position("9-10") > position("9-9") && position("10-0") > position("9-10"));
        assert_eq!(position("12-3").to_string(), "12-3");
        assert!(position("") < position("0-1"));
        assert!(Position::parse("x").is_none() && Position::parse("1-").is_none());
    }
}
