//! `latchkey user list`: page by page, so that any number of accounts fits.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::{
    domain::{
        account::{Account, Username},
        clock::Timestamp,
    },
    store::sql::Sql,
};

/// Accounts asked for at once.
const PAGE: u32 = 500;

/// Writes all accounts to standard output, in the order of their ids: the oldest first.
pub(super) async fn run(sql: &Sql, json: bool) -> anyhow::Result<()> {
    // The file beneath, not `print!`: that a pipe is closed should end the command and not be a panic.
    let mut out = BufWriter::new(io::stdout().lock());
    if !json {
        writeln!(out, "{}", row(["ID", "STATE", "MADE", "USERNAME", "E-MAIL", "ROLES"]))?;
    }
    let mut after = None;
    loop {
        let page = sql.list_accounts(after, PAGE).await?;
        for account in &page {
            if json {
                serde_json::to_writer(&mut out, &Shown::of(account)).map_err(io::Error::from)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", in_table(account))?;
            }
        }
        out.flush()?;
        match page.last() {
            Some(last) => after = Some(last.id),
            None => return Ok(()),
        }
    }
}

fn in_table(account: &Account) -> String {
    let state = if account.disabled_at.is_some() { "disabled" } else { "active" };
    let made = account.created_at.to_string();
    let date = made.split('T').next().unwrap_or_default();
    let username = account.username.as_ref().map_or("-", Username::as_str);
    row([&account.id.to_string(), state, date, username, account.email.as_str(), &account.roles.to_string()])
}

fn row([id, state, made, username, email, roles]: [&str; 6]) -> String {
    let row = format!("{id:<36}  {state:<8}  {made:<10}  {username:<16}  {email:<32}  {roles}");
    row.trim_end().to_owned()
}

/// An account as a line of JSON. Never its hash.
#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
    created_at: String,
    updated_at: String,
    password_changed_at: String,
}

impl<'a> Shown<'a> {
    fn of(account: &'a Account) -> Self {
        let time = |time: Timestamp| time.to_string();
        Self {
            id: account.id.to_string(),
            email: account.email.as_str(),
            username: account.username.as_ref().map(Username::as_str),
            roles: account.roles.names(),
            disabled_at: account.disabled_at.map(time),
            created_at: time(account.created_at),
            updated_at: time(account.updated_at),
            password_changed_at: time(account.password_changed_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        account::{Email, Epoch, Roles},
        ids::AccountId,
        secret::PasswordHash,
    };

    fn account() -> Account {
        let time = Timestamp::from_millis(1_800_000_000_000);
        Account {
            id: AccountId::from_bytes([7; 16]),
            email: Email::parse("Ann@example.com").unwrap(),
            username: None,
            password_hash: PasswordHash::new("$argon2id$hush"),
            roles: Roles::parse(["ops", "admin"]).unwrap(),
            disabled_at: None,
            created_at: time,
            updated_at: time,
            password_changed_at: time,
            epoch: Epoch(0),
        }
    }

    #[test]
    fn all_is_shown_but_the_hash() {
        assert_eq!(
            in_table(&account()),
            "07070707-0707-0707-0707-070707070707  active    2027-01-15  -                 Ann@example.com                   admin ops"
        );
        let disabled = Account {
            username: Some(Username::parse("ann").unwrap()),
            disabled_at: Some(Timestamp::from_millis(1_800_000_001_000)),
            ..account()
        };
        assert!(in_table(&disabled).contains("  disabled  2027-01-15  ann  "));
        assert_eq!(
            serde_json::to_string(&Shown::of(&disabled)).unwrap(),
            r#"{"id":"07070707-0707-0707-0707-070707070707","email":"Ann@example.com","username":"ann","roles":["admin","ops"],"disabled_at":"2027-01-15T08:00:01.000Z","created_at":"2027-01-15T08:00:00.000Z","updated_at":"2027-01-15T08:00:00.000Z","password_changed_at":"2027-01-15T08:00:00.000Z"}"#
        );
    }
}
