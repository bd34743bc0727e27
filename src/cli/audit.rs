//! `latchkey audit`: prints the audit log.

use std::{
    collections::HashSet,
    io::{self, Write},
    net::IpAddr,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, value_parser};
use serde::Serialize;

use super::{
    Global, block_on,
    bootstrap::open_existing_database,
    output::{escape, write_json_line},
};
use crate::{
    config::parse_duration,
    domain::{
        audit::AuditEvent,
        clock::{Clock, Timestamp},
        ids::AccountId,
    },
    service::accounts,
    store::sql::{AuditFilter, AuditRow, Sql},
};

/// How often `--follow` reads new events. Nodes write events once a second.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How far `--follow` looks back for events that a node wrote late.
const LOOK_BACK: Duration = Duration::from_secs(30);

/// The maximum number of events that `--follow` reads at once.
const FOLLOW_LIMIT: u32 = 100_000;

/// Arguments of `latchkey audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// Only events at or after this time (RFC 3339), or this long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only events before this time (RFC 3339), or this long ago
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// Only events of this kind: sign_in, session_ended, rate_limit, …
    #[arg(long, value_name = "EVENT", value_parser = parse_event)]
    pub event: Option<AuditEvent>,
    /// Only events of this account (e-mail address, username or id; for a deleted account, the id)
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Only events from this client address, as the log shows it: `audit.addresses` may have truncated it
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// Print at most this many events: the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Print new events as they are written, until interrupted
    #[arg(long, short, conflicts_with = "until")]
    pub follow: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// A point in time on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// An absolute time.
    At(Timestamp),
    /// A duration before now.
    Ago(Duration),
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = text.parse::<jiff::Timestamp>();
        time.map(|time| Self::At(Timestamp::from_millis(time.as_millisecond())))
            .map_err(|_| "must be a time such as 2026-11-23T08:00:00Z, or a duration such as 2h (ago)".to_owned())
    }
}

impl When {
    fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => now - ago,
        }
    }
}

fn parse_event(text: &str) -> Result<AuditEvent, String> {
    let names = || AuditEvent::ALL.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ");
    AuditEvent::parse(text).ok_or_else(|| format!("must be one of {}", names()))
}

/// Prints the newest matching events, oldest first.
///
/// # Errors
/// If there is no such account, or the database can't be read.
pub fn run(args: &AuditArgs, global: &Global) -> anyhow::Result<()> {
    let config = global.load_existing_config()?;
    block_on(async {
        let sql = open_existing_database(&config).await?;
        let now = Clock::System.now();
        let filter = AuditFilter {
            since: args.since.map(|when| when.resolve(now)),
            until: args.until.map(|when| when.resolve(now)),
            event: args.event,
            account: match &args.account {
                Some(name) => Some(account_id(&sql, name).await?),
                None => None,
            },
            address: args.address,
        };
        // `follow` repeatedly reads the events of the last `LOOK_BACK`, and prints those that are not in `seen`. It must not print events that
        // `--limit` excludes from `rows`, so `seen` has these too. `seen` is read before `rows`: then an event that a node writes between the
        // two reads is either in `rows` or printed by `follow`.
        let seen = if args.follow { Some(read_recent(&sql, &filter).await?) } else { None };
        let mut rows = sql.audit(&filter, args.limit).await?;
        // the database returns the newest event first
        rows.reverse();
        if !args.json {
            print_heading()?;
        }
        print_rows(&rows, args.json)?;
        if let Some(mut seen) = seen {
            seen.extend(rows);
            follow(&sql, &filter, &seen, args.json).await?;
        }
        sql.close().await;
        Ok(())
    })
}

/// Prints events that are not in `seen`, as they are written.
async fn follow(sql: &Sql, filter: &AuditFilter, seen: &[AuditRow], json: bool) -> anyhow::Result<()> {
    let mut seen: HashSet<String> = seen.iter().map(|row| row.id.clone()).collect();
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let mut rows = read_recent(sql, filter).await?;
        rows.reverse();
        let recent_ids = rows.iter().map(|row| row.id.clone()).collect();
        rows.retain(|row| !seen.contains(&row.id));
        print_rows(&rows, json)?;
        // events from before `LOOK_BACK` are not read again, so their ids are dropped
        seen = recent_ids;
    }
}

/// Reads the events of the last [`LOOK_BACK`], newest first, whatever the filter's `since` is.
async fn read_recent(sql: &Sql, filter: &AuditFilter) -> anyhow::Result<Vec<AuditRow>> {
    let since = Some(Clock::System.now() - LOOK_BACK);
    Ok(sql.audit(&AuditFilter { since, ..filter.clone() }, FOLLOW_LIMIT).await?)
}

/// Returns the id of the account with this name, in the forms that [`accounts::find`] accepts. If no account has it, a UUID is taken for
/// the id of a deleted account, with or without the prefix `id:`.
async fn account_id(sql: &Sql, name: &str) -> anyhow::Result<AccountId> {
    match accounts::find(sql, name).await {
        Ok(account) => Ok(account.id),
        Err(error) => match name.strip_prefix("id:").unwrap_or(name).parse() {
            Ok(id) => Ok(id),
            Err(_) => Err(error).with_context(|| format!("{name:?}")),
        },
    }
}

fn print_heading() -> io::Result<()> {
    let heading = align(["TIME", "EVENT", "OUTCOME", "REASON", "COUNT", "ADDRESS", "ACTOR", "CONCERNS"]);
    writeln!(io::stdout().lock(), "{heading}")
}

fn print_rows(rows: &[AuditRow], json: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for row in rows {
        if json {
            write_json_line(&mut out, &RowJson::of(row))?;
        } else {
            writeln!(out, "{}", table_row(row))?;
        }
    }
    out.flush()
}

fn table_row(row: &AuditRow) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let concerns = [
        row.account_id.as_ref().map(|id| format!("account={id}")),
        row.session_id.as_ref().map(|id| format!("session={id}")),
        row.client_id.as_ref().map(|id| format!("client={id}")),
        row.detail.clone(),
    ];
    let concerns: Vec<String> = concerns.into_iter().flatten().collect();
    align([
        &row.at.to_string(),
        &row.event,
        &row.outcome,
        &or_dash(&row.reason),
        &row.count.to_string(),
        &or_dash(&row.address),
        &row.actor,
        &escape(&concerns.join(" ")),
    ])
}

/// Pads the columns of a line of the table.
fn align([time, event, outcome, reason, count, address, actor, concerns]: [&str; 8]) -> String {
    let line = format!(
        "{time:<24}  {event:<21}  {outcome:<7}  {reason:<17}  {count:>5}  {address:<15}  {actor:<13}  {concerns}"
    );
    line.trim_end().to_owned()
}

/// An event as JSON.
#[derive(Serialize)]
struct RowJson<'a> {
    id: &'a str,
    at: String,
    event: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    count: i64,
}

impl<'a> RowJson<'a> {
    fn of(row: &'a AuditRow) -> Self {
        Self {
            id: &row.id,
            at: row.at.to_string(),
            event: &row.event,
            outcome: &row.outcome,
            reason: row.reason.as_deref(),
            account_id: row.account_id.as_deref(),
            session_id: row.session_id.as_deref(),
            client_id: row.client_id.as_deref(),
            detail: row.detail.as_deref(),
            actor: &row.actor,
            address: row.address.as_deref(),
            count: row.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_argument_is_a_point_in_time_or_an_age() {
        assert_eq!("2h".parse(), Ok(When::Ago(Duration::from_hours(2))));
        assert_eq!("2027-01-15T08:00:00Z".parse(), Ok(When::At(Timestamp::from_millis(1_800_000_000_000))));
        assert!("yesterday".parse::<When>().is_err());
    }

    #[test]
    fn unknown_event_is_refused() {
        assert_eq!(parse_event("sign_in"), Ok(AuditEvent::SignIn));
        assert!(parse_event("signin").unwrap_err().contains("sign_in, "), "the error lists the known events");
    }
}
