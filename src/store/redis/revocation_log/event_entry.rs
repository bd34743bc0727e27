//! Entries of the revocation streams, as read from a stream or received on the channel.

use std::{collections::HashMap, fmt};

use crate::{
    domain::{
        account::ClaimsVersion,
        clock::Timestamp,
        event::{EndReason, Revocation, RevocationTarget},
        ids::{AccountId, SessionId},
    },
    store::redis::{connection::RedisError, key},
};

/// The id of a stream entry: the time by Redis' clock at which it was appended, in milliseconds, and its number among the entries of
/// the same millisecond. Zero for a stream without entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store::redis) struct Position {
    pub(super) millis: u64,
    pub(super) number: u64,
}

impl Position {
    /// Parses an id as Redis writes it; an empty text is the position before any entry.
    pub(in crate::store::redis) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let (millis, number) = text.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, number: number.parse().ok()? })
    }

    /// Whether this is the position before any entry.
    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

/// One entry of a revocation stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) revocation: Revocation,
}

impl Entry {
    /// Parses a message of the channel, which consists of entries of seven lines: the position, the position of the previous entry,
    /// the four lines of the event, and the sender, which names the node that waits and the number to acknowledge. Returns the entry,
    /// the previous position and the sender. `None` stands for an unreadable entry.
    pub(super) fn parse_message(message: &str) -> impl Iterator<Item = Option<(Self, Position, &str)>> {
        let mut lines = message.split('\n').peekable();
        std::iter::from_fn(move || {
            lines.peek()?;
            let entry_lines: [Option<&str>; 7] = std::array::from_fn(|_| lines.next());
            let parse = || {
                let [position, previous, account, session, reason, at, sender] = entry_lines;
                let position = Position::parse(position?)?;
                let revocation = parse_event([account, session, reason, at])?;
                let previous = Position::parse(previous?)?;
                Some((Self { position, revocation }, previous, sender?))
            };
            Some(parse())
        })
    }

    /// Parses an entry of a stream, whose field `e` holds the event. The inner error is the position of an entry that this release can't
    /// read, such as one of a newer release.
    ///
    /// # Errors
    /// [`RedisError::Unexpected`] if the id is malformed.
    pub(super) fn parse_stream(
        id: &str,
        fields: &HashMap<String, String>,
    ) -> Result<Result<Self, Position>, RedisError> {
        let position =
            Position::parse(id).ok_or_else(|| RedisError::Unexpected(format!("malformed stream entry id {id}")))?;
        let parse = || {
            let mut lines = fields.get("e")?.split('\n');
            parse_event(std::array::from_fn(|_| lines.next()))
        };
        Ok(parse().map(|revocation| Self { position, revocation }).ok_or(position))
    }

    /// The bucket whose stream holds the entry.
    pub(super) fn bucket(&self) -> usize {
        match self.revocation.target {
            RevocationTarget::Session { account, .. }
            | RevocationTarget::Account { account, .. }
            | RevocationTarget::Claims { account, .. } => key::bucket(account),
            RevocationTarget::Key { .. } => KEYS_BUCKET,
        }
    }
}

/// The bucket whose stream holds the revocations of signing keys, which belong to no account.
pub(super) const KEYS_BUCKET: usize = 0;

/// The text of the event that ends one session, in the format of `event_of` in `lua/lib.lua`.
pub(in crate::store::redis) fn session_end_event(
    account: AccountId,
    session: SessionId,
    reason: EndReason,
    at: Timestamp,
) -> String {
    let (reason_text, zeros) = reason_in_event(reason);
    format!("{account}\n{session}\n{reason_text}\n{zeros}{}", at.as_millis())
}

/// The text of a reason in an event, and the zeros before the event's time (`event_of` in `lua/lib.lua`).
///
/// A node of release 0.1 reports a gap to all its subscribers if it can't read an event's reason. A reason that 0.1 doesn't know is
/// therefore written as `revoked`. Zeros before the time encode it: one for the first reason of [`EndReason::AFTER_0_1`], two for the
/// second. A parser of numbers ignores them.
fn reason_in_event(reason: EndReason) -> (&'static str, &'static str) {
    match EndReason::AFTER_0_1.into_iter().position(|later| later == reason) {
        None => (reason.as_str(), ""),
        // one zero for position 0
        Some(position) => (EndReason::Revoked.as_str(), &"00000000"[..=position]),
    }
}

/// Parses the reason and the time of an event, as [`reason_in_event`] writes them. An unknown reason, of a newer release, becomes
/// [`EndReason::Revoked`]: the sessions have ended all the same.
fn reason_and_time(reason: &str, at: &str) -> Option<(EndReason, Timestamp)> {
    let zeros = at.bytes().take_while(|byte| *byte == b'0').count();
    let encoded_reason = zeros.checked_sub(1).and_then(|position| EndReason::AFTER_0_1.get(position).copied());
    let reason = encoded_reason.or_else(|| EndReason::parse(reason)).unwrap_or(EndReason::Revoked);
    Some((reason, Timestamp::from_millis(at.parse().ok()?)))
}

/// Parses the version of claims that an event names in place of a session (`claims_uuid` in `lua/set_claims.lua`).
///
/// Releases before 0.2 know no such event. They parse it as the end of a session that never existed: they acknowledge it, and
/// pass it to their subscribers, without effect. An event that they could not parse would be a gap for all their subscribers,
/// which would refuse or introspect valid tokens until they have read a snapshot of the revocations.
fn claims_version(session: &str) -> Option<ClaimsVersion> {
    let hex = session.strip_prefix("00000000-0000-0000-0000-").filter(|hex| hex.len() == 12)?;
    u32::from_str_radix(hex, 16).ok().map(ClaimsVersion)
}

/// Parses the four lines of an event: account, session (or what stands for it), reason and time.
fn parse_event(event: [Option<&str>; 4]) -> Option<Revocation> {
    let [Some(account), Some(session), Some(reason), Some(at)] = event else { return None };
    let (mut reason, at) = reason_and_time(reason, at)?;
    // Called only where it is needed: the event of a signing key has no account.
    let account = || account.parse::<AccountId>().ok();
    // rounded down, because tokens contain the start of their session in whole seconds
    let before = Timestamp::from_millis(at.as_secs() * 1000);
    let target = match session.rsplit_once(' ') {
        None if session == "all" => RevocationTarget::Account { account: account()?, before, except: None },
        None => match claims_version(session) {
            Some(version) => {
                reason = EndReason::ClaimsChanged;
                RevocationTarget::Claims { account: account()?, version }
            }
            None => RevocationTarget::Session { account: account()?, session: session.parse().ok()? },
        },
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

    /// Parses a message with this text in place of the session, checks its other lines, and returns the target of its event.
    fn parse_target(session: &str) -> Option<RevocationTarget> {
        let message = format!("7-1\n\n{ACCOUNT}\n{session}\nlogout\n1800000000123\nnode 7");
        let [received] = Entry::parse_message(&message).collect::<Vec<_>>().try_into().ok()?;
        let (entry, previous, sender) = received?;
        assert_eq!(sender, "node 7");
        assert_eq!(entry.position, Position { millis: 7, number: 1 });
        assert!(previous.is_zero());
        assert_eq!(entry.revocation.at, Timestamp::from_millis(1_800_000_000_123));
        Some(entry.revocation.target)
    }

    #[test]
    fn event_of_every_kind_is_parsed() {
        let (account, session) = (ACCOUNT.parse().unwrap(), SESSION.parse().unwrap());
        // the beginning of the second in which the event happened
        let before = Timestamp::from_millis(1_800_000_000_000);
        assert_eq!(parse_target(SESSION), Some(RevocationTarget::Session { account, session }));
        assert_eq!(parse_target("all"), Some(RevocationTarget::Account { account, before, except: None }));
        let all_but = format!("all but {SESSION}");
        assert_eq!(parse_target(&all_but), Some(RevocationTarget::Account { account, before, except: Some(session) }));
        assert_eq!(parse_target("key abc"), Some(RevocationTarget::Key { kid: "abc".to_owned() }));
        let claims = RevocationTarget::Claims { account, version: ClaimsVersion(0x102) };
        assert_eq!(parse_target("00000000-0000-0000-0000-000000000102"), Some(claims));
        let unknown_kind = "some of abc";
        assert_eq!(parse_target(unknown_kind), None);
        assert_eq!(parse_target("malformed-id"), None);
    }

    #[test]
    fn written_event_of_a_session_is_parsed_unchanged() {
        let (account, session) = (ACCOUNT.parse().unwrap(), SESSION.parse().unwrap());
        let at = Timestamp::from_millis(1_800_000_000_123);
        let text = session_end_event(account, session, EndReason::Logout, at);
        let parsed = Entry::parse_stream("7-1", &HashMap::from([("e".to_owned(), text)])).unwrap().unwrap();
        let target = RevocationTarget::Session { account, session };
        assert_eq!(parsed.revocation, Revocation { target, reason: EndReason::Logout, at });
    }

    #[test]
    fn unreadable_entries_of_a_message_are_skipped() {
        let readable = format!("7-1\n\n{ACCOUNT}\n{SESSION}\nlogout\n5\n");
        let newer = format!("7-2\n7-1\n{ACCOUNT}\nof a newer release\nlogout\n5\nnode 1");
        let incomplete = "7-3";
        let message = format!("{readable}\n{newer}\n{readable}\n{incomplete}");
        let senders: Vec<_> = Entry::parse_message(&message).map(|entry| entry.map(|(_, _, sender)| sender)).collect();
        // the readable entries have an empty sender
        assert_eq!(senders, [Some(""), None, Some(""), None]);
    }

    #[test]
    fn event_with_a_reason_of_a_newer_release_ends_the_session_all_the_same() {
        let text = format!("{ACCOUNT}\n{SESSION}\nof a newer release\n5");
        let parsed = Entry::parse_stream("7-1", &HashMap::from([("e".to_owned(), text)])).unwrap().unwrap();
        let target = RevocationTarget::Session { account: ACCOUNT.parse().unwrap(), session: SESSION.parse().unwrap() };
        assert_eq!(parsed.revocation.target, target);
        assert_eq!(parsed.revocation.reason, EndReason::Revoked);
    }

    #[test]
    fn reasons_in_events_are_those_that_release_0_1_reads() {
        let read_by_0_1 =
            ["logout", "revoked", "reuse", "limit", "password_changed", "disabled", "deleted", "key_retired"];
        let at = Timestamp::from_millis(1_800_000_000_123);
        for reason in EndReason::ALL.into_iter().filter(|reason| *reason != EndReason::ClaimsChanged) {
            let text = session_end_event(ACCOUNT.parse().unwrap(), SESSION.parse().unwrap(), reason, at);
            let lines: Vec<_> = text.split('\n').collect();
            assert!(read_by_0_1.contains(&lines[2]), "a reason after 0.1 belongs to EndReason::AFTER_0_1: {text}");
            assert_eq!(lines[3].parse(), Ok(at.as_millis()));
            let parsed = Entry::parse_stream("7-1", &HashMap::from([("e".to_owned(), text)])).unwrap().unwrap();
            assert_eq!(parsed.revocation.reason, reason);
            assert_eq!(parsed.revocation.at, at);
        }
    }

    #[test]
    fn lib_lua_writes_later_reasons_as_reason_in_event_does() {
        let lua = include_str!("../lua/lib.lua");
        for later in EndReason::AFTER_0_1 {
            let (text, zeros) = reason_in_event(later);
            let line = format!("reason == '{}' then reason, at = '{text}', '{zeros}' .. at", later.as_str());
            assert!(lua.contains(&line), "lib.lua lacks: {line}");
        }
    }

    #[test]
    fn positions_are_ordered_by_time_and_number() {
        let position = |text| Position::parse(text).unwrap();
        assert!(position("9-9") < position("9-10"));
        assert!(position("9-10") < position("10-0"));
        assert!(position("") < position("0-1"));
        assert_eq!(position("12-3").to_string(), "12-3");
        for malformed in ["x", "1-"] {
            assert_eq!(Position::parse(malformed), None);
        }
    }
}
