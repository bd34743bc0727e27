//! `latchkey audit`: reads the audit log.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use anyhow::Context;
use clap::{Args, value_parser};
use serde::Serialize;

use super::{Global, block_on, bootstrap::database};
use crate::{
    config::parse_duration,
    domain::{
        account::Identifier,
        audit::AuditEvent,
        clock::{Clock, Timestamp},
        entropy::Entropy,
        ids::AccountId,
    },
    store::sql::{AuditFilter, AuditRow, Sql},
};

/// Arguments of `latchkey audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// Not before this: a time (RFC 3339), or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Before this: a time (RFC 3339), or how long ago
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// What happened: sign_in, session_ended, rate_limit, …
    #[arg(long, value_name = "EVENT", value_parser = event)]
    pub event: Option<AuditEvent>,
    /// Whose account; of a deleted account the id
    #[arg(long, value_name = "EMAIL|USERNAME|ID")]
    pub account: Option<String>,
    /// From where, as the log has it
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// How many events at most; the newest ones
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// A time, as it is given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This time.
    At(Timestamp),
    /// So long ago.
    Ago(std::time::Duration),
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = text.parse::<jiff::Timestamp>();
        time.map(|time| Self::At(Timestamp::from_millis(time.as_millisecond())))
            .map_err(|_| "must be a time such as 2026-11-23T08:00:00Z, or how long ago, such as 2h".to_owned())
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

fn event(text: &str) -> Result<AuditEvent, String> {
    let words = || AuditEvent::ALL.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ");
    AuditEvent::parse(text).ok_or_else(|| format!("must be one of {}", words()))
}

/// Prints the newest events that fit, oldest of them first.
///
/// # Errors
/// If there is no such account, or the database can't be read.
pub fn run(args: &AuditArgs, global: &Global) -> anyhow::Result<()> {
    let config = global.start(&Entropy::system())?;
    block_on(async {
        let sql = database(&config).await?;
        let now = Clock::System.now();
        let filter = AuditFilter {
            since: args.since.map(|when| when.resolve(now)),
            until: args.until.map(|when| when.resolve(now)),
            event: args.event,
            account: match &args.account {
                Some(name) => Some(account(&sql, name).await?),
                None => None,
            },
            address: args.address,
        };
        let mut rows = sql.audit(&filter, args.limit).await?;
        sql.close().await;
        rows.reverse();
        print(&rows, args.json)?;
        Ok(())
    })
}

/// The id of an account. An id is taken as it is: the account may be gone.
async fn account(sql: &Sql, name: &str) -> anyhow::Result<AccountId> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let found = sql.find_account(&Identifier::parse(name)).await?;
    Ok(found.with_context(|| format!("{name:?}: there is no such account"))?.id)
}

fn print(rows: &[AuditRow], json: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if !json {
        writeln!(out, "{}", line(["TIME", "EVENT", "OUTCOME", "REASON", "COUNT", "ADDRESS", "ACTOR", "CONCERNS"]))?;
    }
    for row in rows {
        if json {
            serde_json::to_writer(&mut out, &Shown::of(row)).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", in_table(row))?;
        }
    }
    out.flush()
}

fn in_table(row: &AuditRow) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let concerns = [
        row.account_id.as_ref().map(|id| format!("account={id}")),
        row.session_id.as_ref().map(|id| format!("session={id}")),
        row.client_id.as_ref().map(|id| format!("client={id}")),
        row.detail.clone(),
    ];
    let concerns: Vec<String> = concerns.into_iter().flatten().collect();
    line([
        &row.at.to_string(),
        &row.event,
        &row.outcome,
        &or_dash(&row.reason),
        &row.count.to_string(),
        &or_dash(&row.address),
        &row.actor,
        &concerns.join(" "),
    ])
}

fn line([time, event, outcome, reason, count, address, actor, concerns]: [&str; 8]) -> String {
    let line = format!(
        "{time:<24}  {event:<21}  {outcome:<7}  {reason:<17}  {count:>5}  {address:<15}  {actor:<13}  {concerns}"
    );
    line.trim_end().to_owned()
}

/// An event as a line of JSON.
#[derive(Serialize)]
struct Shown<'a> {
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

impl<'a> Shown<'a> {
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_times_or_ages() {
        assert_eq!("2h".parse(), Ok(When::Ago(Duration::from_hours(2))));
        assert_eq!("2027-01-15T08:00:00Z".parse(), Ok(When::At(Timestamp::from_millis(1_800_000_000_000))));
        assert!("yesterday".parse::<When>().is_err());
    }

    #[test]
    fn only_events_that_exist_can_be_asked_for() {
        assert_eq!(event("sign_in"), Ok(AuditEvent::SignIn));
        assert!(event("signin").unwrap_err().contains("sign_in, "));
    }
}
