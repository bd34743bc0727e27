//! `latchkey user list`: reads accounts page by page, so that the memory use does not depend on their number.

use std::io::{self, BufWriter, Write};

use super::{AccountState, ListArgs, show::AccountJson};
use crate::{
    cli::output::{escape, write_json_line},
    domain::account::{Account, Email, Username},
    store::sql::Sql,
};

/// Number of accounts per query.
const PAGE_SIZE: u32 = 500;

/// Prints the accounts that match, in the order of their ids. Generated ids ascend over time.
pub(super) async fn run(sql: &Sql, args: &ListArgs) -> anyhow::Result<()> {
    // not `print!`, which panics when the reader has closed the pipe
    let mut out = BufWriter::new(io::stdout().lock());
    if !args.json {
        writeln!(out, "{}", row(["ID", "STATE", "CREATED", "USERNAME", "E-MAIL", "ROLES"]))?;
    }
    let mut remaining = args.limit.unwrap_or(u64::MAX);
    // The next query starts after `last_read`, and the user's next command after `last_printed`.
    let mut last_printed = args.after;
    let mut last_read = args.after;
    loop {
        let page = sql.list_accounts(last_read, PAGE_SIZE).await?;
        let Some(last) = page.last() else { return Ok(out.flush()?) };
        last_read = Some(last.id);
        for account in page.iter().filter(|account| args.matches(account)) {
            if remaining == 0 {
                out.flush()?;
                // always `Some`, because the limit is at least 1
                if let Some(id) = last_printed {
                    eprintln!("more accounts match; continue with --after {id}");
                }
                return Ok(());
            }
            if args.json {
                write_json_line(&mut out, &AccountJson::of(account))?;
            } else {
                writeln!(out, "{}", table_row(account))?;
            }
            remaining -= 1;
            last_printed = Some(account.id);
        }
        out.flush()?;
    }
}

impl ListArgs {
    fn matches(&self, account: &Account) -> bool {
        let name_contains = |text: &str| {
            let text = text.to_lowercase();
            account.email.as_str().to_lowercase().contains(&text)
                || account.username.as_ref().is_some_and(|name| name.as_str().to_lowercase().contains(&text))
        };
        let state = if account.disabled_at.is_some() { AccountState::Disabled } else { AccountState::Active };
        self.contains.as_deref().is_none_or(name_contains)
            && self.role.as_deref().is_none_or(|role| account.roles.contains(role))
            && self.state.is_none_or(|wanted| wanted == state)
    }
}

fn table_row(account: &Account) -> String {
    let state = if account.disabled_at.is_some() { "disabled" } else { "active" };
    // the date of an RFC 3339 time
    let created = account.created_at.to_string();
    let date = created.split('T').next().unwrap_or_default();
    let username = escape(account.username.as_ref().map_or("-", Username::as_str));
    let email = escape(account.primary_email().map_or("-", Email::as_str));
    row([&account.id.to_string(), state, date, &username, &email, &account.roles.to_string()])
}

fn row([id, state, created, username, email, roles]: [&str; 6]) -> String {
    let row = format!("{id:<36}  {state:<8}  {created:<10}  {username:<16}  {email:<32}  {roles}");
    row.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        account::{ClaimsVersion, Epoch, Roles},
        clock::Timestamp,
        factor::{Factors, FactorsVersion},
        ids::AccountId,
        secret::PasswordHash,
    };

    fn account() -> Account {
        let time = Timestamp::from_millis(1_800_000_000_000); // 2027-01-15T08:00:00Z
        Account {
            id: AccountId::from_bytes([7; 16]),
            email: Email::parse("Ann@example.com").unwrap(),
            email_verified: false,
            username: None,
            password_hash: Some(PasswordHash::new("$argon2id$hush")),
            roles: Roles::parse(["ops", "admin"]).unwrap(),
            disabled_at: None,
            deletion_at: None,
            created_at: time,
            updated_at: time,
            password_changed_at: time,
            epoch: Epoch(0),
            claims_version: ClaimsVersion(0),
            factors: Factors::NONE,
            factors_version: FactorsVersion::default(),
            factor_required_at: None,
        }
    }

    #[test]
    fn row_and_json_of_an_account_omit_the_password_hash() {
        assert_eq!(
            table_row(&account()),
            "07070707-0707-0707-0707-070707070707  active    2027-01-15  -                 Ann@example.com                   admin ops"
        );
        let disabled = Account {
            username: Some(Username::parse("ann").unwrap()),
            disabled_at: Some(Timestamp::from_millis(1_800_000_001_000)),
            ..account()
        };
        assert!(table_row(&disabled).contains("  disabled  2027-01-15  ann  "));
        assert_eq!(
            serde_json::to_string(&AccountJson::of(&disabled)).unwrap(),
            r#"{"id":"07070707-0707-0707-0707-070707070707","email":"Ann@example.com","email_verified":false,"username":"ann","roles":["admin","ops"],"disabled_at":"2027-01-15T08:00:01.000Z","created_at":"2027-01-15T08:00:00.000Z","updated_at":"2027-01-15T08:00:00.000Z","password_changed_at":"2027-01-15T08:00:00.000Z"}"#
        );
    }

    #[test]
    fn row_of_an_account_that_has_lost_its_address_has_a_dash() {
        let no_address = Email::from_stored(String::new());
        let row = table_row(&Account { email: no_address, ..account() });
        assert!(row.contains("  -                                 admin ops"), "{row}");
    }

    #[test]
    fn account_matches_filters_by_name_role_and_state() {
        let ann = account();
        let matches_with = |change: fn(&mut ListArgs)| {
            let mut args = ListArgs { contains: None, role: None, state: None, limit: None, after: None, json: false };
            change(&mut args);
            args.matches(&ann)
        };
        assert!(matches_with(|_| {}), "no filter");
        assert!(matches_with(|args| args.contains = Some("ANN@".into())));
        assert!(matches_with(|args| args.role = Some("ops".into())));
        assert!(matches_with(|args| args.state = Some(AccountState::Active)));
        assert!(!matches_with(|args| args.contains = Some("bob".into())));
        assert!(!matches_with(|args| args.role = Some("op".into())));
        assert!(!matches_with(|args| args.state = Some(AccountState::Disabled)));
    }
}
