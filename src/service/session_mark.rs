//! Detects a Redis that was restored from an old copy, and ends its sessions: a session that ended after the copy was made must not
//! become live again (I3).
//!
//! Nodes write the current time as a mark to Redis, then to the database, once a minute. A Redis whose mark is older than the
//! database's by more than [`TOLERANCE`], or that has none, was restored, or lost more writes than a failover loses. Which
//! sessions have ended since is unknown, so all of them end. A database that was restored together with its Redis has the same
//! mark: `latchkey restore` therefore leaves out the sessions by default.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::{
    domain::{
        audit::{AuditEntry, AuditEvent},
        clock::Timestamp,
        event::EndReason,
        ids::AccountId,
    },
    service::error::ServiceError,
    state::AppState,
    store::redis::AccountSessions,
};

/// Interval at which a node compares the mark in Redis with the last mark that it knows.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The age of a mark at which a node writes a new one.
const MARK_INTERVAL: Duration = Duration::from_mins(1);

/// The largest difference between the marks that does not count as a restore. A failover to an asynchronous replica loses less than
/// this.
pub const TOLERANCE: Duration = Duration::from_mins(2);

/// Pause after a check that failed because a store did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Number of accounts whose sessions are ended at the same time.
const CONCURRENCY: usize = 64;

/// Checks once before the node serves, so that the sessions of a restored Redis have ended by then. If a store does not
/// answer, the node starts nevertheless, and [`run`] retries. Returns the last mark that the node knows.
pub async fn check_at_start(state: &AppState) -> Option<Timestamp> {
    let mut known = None;
    if let Err(error) = check(state, &mut known).await {
        tracing::warn!(
            %error,
            "could not check whether Redis was restored from an old copy: the node starts nevertheless, and checks again each second. Until a \
             check succeeds, sessions that have ended are accepted if Redis was restored. Check the connections to Redis and the \
             database (`latchkey doctor`)"
        );
    }
    known
}

/// Checks at intervals, until the node stops. `known` is the last mark that this node knows.
pub async fn run(state: &AppState, mut known: Option<Timestamp>) {
    loop {
        let pause = match check(state, &mut known).await {
            Ok(()) => CHECK_INTERVAL,
            Err(error) => {
                tracing::debug!(
                    %error,
                    "checking whether Redis was restored from an old copy failed, retrying in 1 s"
                );
                RETRY_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Compares the marks, ends all sessions of a Redis that was restored, and writes a new mark if the last one is old. `known` is
/// the last mark that this node knows.
///
/// # Errors
/// [`ServiceError`]
pub async fn check(state: &AppState, known: &mut Option<Timestamp>) -> Result<(), ServiceError> {
    let now = state.clock.now();
    // Other nodes may have written a later mark since. They write it to Redis first, so this node reads the database first. In the other order,
    // a mark that is written between the two reads would be found in the database only.
    if known.is_none_or(|known| now.saturating_since(known) >= MARK_INTERVAL) {
        let stored = state.sql.session_mark().await?;
        *known = stored.max(*known); // `None` is the minimum
    }
    let found = state.redis.sessions.mark().await?;
    let redis_is_behind = known.is_some_and(|known| found.is_none_or(|found| found + TOLERANCE < known));
    if redis_is_behind && state.redis.sessions.accounts().await?.is_empty() {
        tracing::warn!(
            found = found.map(|mark| mark.to_string()),
            expected = known.map(|mark| mark.to_string()),
            "Redis has no sessions, and the time that nodes write to it each minute is missing, or older than in the database: it was replaced or emptied since the database was \
             last used, as after `latchkey restore`. All users must sign in again. If nobody did this, check the persistence of Redis \
             (`latchkey doctor`) and who has access to it"
        );
    } else if redis_is_behind {
        tracing::error!(
            found = found.map(|mark| mark.to_string()),
            expected = known.map(|mark| mark.to_string()),
            "Redis was restored from an old copy or lost writes: the time that nodes write to it each minute is \
             missing, or older than in the database. All sessions end now, because those that had ended since then \
             would be live again"
        );
        let ended = end_all(state, "redis_restored").await?;
        tracing::warn!(sessions_ended = ended, "all sessions ended: users sign in again");
    }
    let last = (*known).max(found);
    if redis_is_behind || last.is_none_or(|last| now.saturating_since(last) >= MARK_INTERVAL) {
        // never earlier than the last mark, whose node may have a clock ahead of this one's
        let mark = last.map_or(now, |last| last.max(now));
        state.redis.sessions.set_mark(mark).await?;
        state.sql.set_session_mark(mark).await?;
        *known = Some(mark);
    } else {
        *known = last;
    }
    Ok(())
}

/// Ends all sessions of all accounts, and makes all links and codes of mails unusable. Returns the number of sessions ended.
/// `cause` is the reason in the audit log.
///
/// # Errors
/// [`ServiceError`]. Some sessions may have ended then; the call can be repeated.
pub async fn end_all(state: &AppState, cause: &'static str) -> Result<u64, ServiceError> {
    let now = state.clock.now();
    let accounts = state.redis.sessions.accounts().await?;
    let revoke =
        |account: AccountId| state.redis.sessions.revoke_all(AccountSessions::all(account), EndReason::Revoked, now);
    let mut ended = 0;
    let mut answers = stream::iter(accounts).map(revoke).buffer_unordered(CONCURRENCY);
    while let Some(answer) = answers.next().await {
        ended += answer?;
    }
    // a restored Redis may hold links and codes that were used after the copy
    state.redis.sessions.delete_one_time_tokens().await?;
    state.audit.record(AuditEntry::new(now, AuditEvent::SessionsEnded).because(cause).count(ended));
    Ok(ended)
}
