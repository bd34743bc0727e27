//! Reads revocation events from Redis.

use latchkey::{domain::ids::AccountId, store::redis::key::Keys};

use super::redis::Redis;

/// A revocation event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub account: String,
    /// The id of the ended session, `all`, or `all but ID`.
    pub session: String,
    pub cause: String,
    /// The time in milliseconds since the Unix epoch.
    pub at: String,
}

/// Returns the events of an account, oldest first.
pub fn of_account(redis: &Redis, account: AccountId) -> Vec<Event> {
    // `lk:` is the default of `redis.prefix`
    let stream = Keys::new("lk:").events(account);
    let answer = redis.command(&["XRANGE", &stream, "-", "+"]);
    let lines: Vec<&str> = answer.lines().collect();
    let mut events = Vec::new();
    // redis-cli prints an entry as six lines: its id, the field `e`, and four lines of the field's value.
    let (entries, _) = lines.as_chunks::<6>();
    for &[_id, field, account, session, cause, at] in entries {
        assert_eq!(field, "e", "{answer}");
        events.push(Event {
            account: account.to_owned(),
            session: session.to_owned(),
            cause: cause.to_owned(),
            at: at.to_owned(),
        });
    }
    // The stream also has the events of other accounts.
    events.retain(|event| event.account == account.to_string());
    events
}

/// Returns the session and cause of each event.
pub fn sessions_and_causes(redis: &Redis, account: AccountId) -> Vec<(String, String)> {
    of_account(redis, account).into_iter().map(|event| (event.session, event.cause)).collect()
}

/// Returns the causes of one session's events.
pub fn causes_of_session(redis: &Redis, account: AccountId, session: &str) -> Vec<String> {
    of_account(redis, account).into_iter().filter(|event| event.session == session).map(|event| event.cause).collect()
}
