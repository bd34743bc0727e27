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
    let answer = redis.command(&["XRANGE", &Keys::new("lk:").events(account), "-", "+"]);
    let lines: Vec<&str> = answer.lines().collect();
    let mut events = Vec::new();
    // redis-cli prints an entry as six lines: id, field `e`, and the four lines of its value
    for entry in lines.chunks_exact(6) {
        assert_eq!(entry[1], "e", "{answer}");
        let [account, session, cause, at] = [2, 3, 4, 5].map(|i: usize| entry[i].to_owned());
        events.push(Event { account, session, cause, at });
    }
    // Accounts of the same bucket share the stream.
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
