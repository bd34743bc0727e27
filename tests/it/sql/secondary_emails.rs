//! Accounts with several addresses: a sign-in makes one query, and a verified address has one owner.

use latchkey::{
    domain::{
        account::{Account, Email, Identifier, NewAccount},
        entropy::Entropy,
        ids::AccountId,
    },
    store::sql::{AccountChange, ImportOutcome, SecondaryEmail, Sql, TakeAddressError},
};

use super::{LATER, NOW, new_account, on_every_backend, with_username};
use crate::harness::log::Log;

fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

/// An unverified secondary address of an account.
fn unverified(account: &NewAccount, text: &str) -> SecondaryEmail {
    SecondaryEmail {
        id: Entropy::system().email_id(NOW),
        account: account.id,
        email: email(text),
        verified_at: None,
        created_at: NOW,
    }
}

/// A verified secondary address of an account.
fn verified(account: &NewAccount, text: &str) -> SecondaryEmail {
    SecondaryEmail { verified_at: Some(NOW), ..unverified(account, text) }
}

/// Imports `rows` as the only batch of the import named `source`, without factors. `emails` are secondary addresses, each
/// with the index of its account in `rows`.
async fn import(
    sql: &Sql,
    source: &str,
    rows: &[NewAccount],
    emails: &[(usize, SecondaryEmail)],
) -> Vec<ImportOutcome> {
    let (last_record, factors) = (rows.len() as u64, []);
    sql.import_accounts(source, last_record, rows, &factors, emails, NOW).await.unwrap()
}

async fn begin_change(sql: &Sql, account: &NewAccount) -> AccountChange {
    sql.change_account(account.id).await.unwrap().unwrap()
}

/// Commits a change that took an address, and returns its account. `None` if another account has verified the address.
async fn commit_unless_taken(change: AccountChange, result: Result<(), TakeAddressError>) -> Option<AccountId> {
    let id = change.account.id;
    match result {
        Ok(()) => change.commit().await.unwrap(),
        Err(TakeAddressError::Taken) => return None,
        Err(TakeAddressError::Sql(error)) => panic!("{error}"),
    }
    Some(id)
}

/// Inserts an account with an unverified secondary address.
async fn insert_with_secondary(sql: &Sql, primary: &str, other: &str) -> (NewAccount, SecondaryEmail) {
    let new = new_account(primary);
    sql.insert_account(&new).await.unwrap();
    let added = unverified(&new, other);
    let mut change = begin_change(sql, &new).await;
    change.add_secondary_email(&added).await.unwrap();
    change.commit().await.unwrap();
    (new, added)
}

async fn find(sql: &Sql, name: &str) -> Option<Account> {
    sql.find_account(&Identifier::parse(name)).await.unwrap()
}

#[tokio::test]
async fn account_is_found_by_each_verified_address_with_one_query() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let (ann, other) = insert_with_secondary(&sql, "ann@example.com", "Ann@Work.example").await;
        assert_eq!(find(&sql, "ann@work.example").await, None);
        let mut change = begin_change(&sql, &ann).await;
        change.verify_secondary_email(&other, LATER).await.unwrap();
        change.commit().await.unwrap();
        for name in ["ann@example.com", "ann@work.example", "ANN@WORK.EXAMPLE"] {
            let before = sql.transactions();
            let found = find(&sql, name).await.unwrap();
            // each query outside of a change is a transaction of its own
            let queries = sql.transactions() - before;
            assert_eq!((found.id, queries), (ann.id, 1), "{name}");
            let stored = sql.named_email(&found, &Identifier::parse(name)).await.unwrap().unwrap();
            let as_added = if name == "ann@example.com" { "ann@example.com" } else { "Ann@Work.example" };
            assert_eq!(stored.as_str(), as_added);
        }
        assert_eq!(find(&sql, "ann@elsewhere.example").await, None);
    })
    .await;
}

#[tokio::test]
async fn loss_of_an_unverified_address_is_logged_with_both_accounts_after_the_commit() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let (ann, other) = insert_with_secondary(&sql, "ann@example.com", "shared@example.com").await;
        let bob = new_account("shared@example.com");
        sql.insert_account(&bob).await.unwrap();
        let (loser, verifier) = (format!("account={}", bob.id), format!("verified_by={}", ann.id));
        let log = Log::start();
        for commits in [false, true] {
            let mut change = begin_change(&sql, &ann).await;
            change.verify_secondary_email(&other, LATER).await.unwrap();
            if commits {
                change.commit().await.unwrap();
            } else {
                drop(change);
            }
            let text = String::from_utf8(log.bytes()).unwrap();
            let is_loss = |line: &&str| line.contains("lost its unverified primary address") && line.contains(&loser);
            let logged = text.lines().find(is_loss);
            assert_eq!(logged.is_some(), commits, "{logged:?}");
            assert!(logged.is_none_or(|line| line.contains(&verifier)), "{logged:?}");
        }
    })
    .await;
}

/// An account that registers with an address while another account verifies it may keep the address, unverified.
#[tokio::test]
async fn verified_owner_of_an_address_is_found_before_an_account_that_has_not_verified_it() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let (ann, other) = insert_with_secondary(&sql, "ann@example.com", "shared@example.com").await;
        let mut change = begin_change(&sql, &ann).await;
        change.verify_secondary_email(&other, LATER).await.unwrap();
        change.commit().await.unwrap();
        let eve = new_account("eve@example.com");
        sql.insert_account(&eve).await.unwrap();
        backend
            .execute_sql(
                "UPDATE accounts SET email = 'shared@example.com', email_key = 'shared@example.com' \
                 WHERE email_key = 'eve@example.com'",
            )
            .await;
        assert_eq!(find(&sql, "shared@example.com").await.unwrap().id, ann.id);
        let mut change = begin_change(&sql, &eve).await;
        assert!(matches!(change.verify_email(LATER).await, Err(TakeAddressError::Taken)));
        // ends the transaction, whose lock would block the next statement
        drop(change);
        // An older release could have verified the address for both accounts. Then the account with it as its primary address is found.
        backend.execute_sql("UPDATE accounts SET email_verified = 1 WHERE email_key = 'shared@example.com'").await;
        assert_eq!(find(&sql, "shared@example.com").await.unwrap().id, eve.id);
    })
    .await;
}

/// Sixteen accounts take one address at once. It is an unverified secondary address of fifteen: eight verify it, and seven make it
/// their primary address. One account has registered with it, and verifies it.
#[tokio::test(flavor = "multi_thread")]
async fn address_gets_one_owner_among_sixteen_racers() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        // several rounds, since a wrong interleaving does not occur in every race
        for round in 0..8 {
            let shared = format!("shared{round}@example.com");
            let mut racers = Vec::new();
            for racer in 0..15 {
                racers.push(insert_with_secondary(&sql, &format!("racer{round}.{racer}@example.com"), &shared).await);
            }
            let registered = new_account(&shared);
            sql.insert_account(&registered).await.unwrap();
            let mut tasks = tokio::task::JoinSet::new();
            for (number, (account, added)) in racers.into_iter().enumerate() {
                let (sql, shared) = (sql.clone(), shared.clone());
                tasks.spawn(async move {
                    let mut change = begin_change(&sql, &account).await;
                    let result = if number % 2 == 0 {
                        change.verify_secondary_email(&added, LATER).await
                    } else {
                        change.make_primary_address(&email(&shared), LATER).await
                    };
                    commit_unless_taken(change, result).await
                });
            }
            let sql_of_registered = sql.clone();
            tasks.spawn(async move {
                let mut change = begin_change(&sql_of_registered, &registered).await;
                // Another account was faster, and this account has lost the address.
                if change.account.email.as_str().is_empty() {
                    return None;
                }
                let result = change.verify_email(LATER).await;
                commit_unless_taken(change, result).await
            });
            let winners: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
            assert_eq!(winners.len(), 1, "{winners:?}");
            assert_eq!(find(&sql, &shared).await.unwrap().id, winners[0]);
        }
    })
    .await;
}

#[tokio::test]
async fn promoted_address_swaps_with_primary_and_deletion_frees_both() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let (ann, other) = insert_with_secondary(&sql, "ann@example.com", "ann@work.example").await;
        let mut change = begin_change(&sql, &ann).await;
        change.verify_email(NOW).await.unwrap();
        change.verify_secondary_email(&other, LATER).await.unwrap();
        change.commit().await.unwrap();
        let stored = sql.secondary_emails(ann.id).await.unwrap();
        let mut change = begin_change(&sql, &ann).await;
        let former_primary_id = Entropy::system().email_id(LATER);
        change.make_primary(&stored[0], stored[0].verified_at.unwrap(), former_primary_id, LATER).await.unwrap();
        assert_eq!(change.account.email.as_str(), "ann@work.example");
        change.commit().await.unwrap();
        let stored = sql.secondary_emails(ann.id).await.unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].id, former_primary_id);
        assert_eq!(stored[0].email.as_str(), "ann@example.com");
        assert_eq!(stored[0].verified_at, Some(NOW));
        let account = sql.account(ann.id).await.unwrap().unwrap();
        assert_eq!(account.email.as_str(), "ann@work.example");
        assert!(account.email_verified);
        let mut change = begin_change(&sql, &ann).await;
        change.delete().await.unwrap();
        change.commit().await.unwrap();
        for free in ["ann@example.com", "ann@work.example"] {
            sql.insert_account(&new_account(free)).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn import_inserts_secondary_addresses_and_refuses_an_account_with_a_taken_one() {
    use ImportOutcome::{EmailTaken, Inserted};
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let rows: Vec<_> =
            ["ann@example.com", "ben@example.com", "cy@example.com", "dee@example.com"].map(new_account).into();
        let emails = [
            (0, verified(&rows[0], "ann@work.example")),
            (0, unverified(&rows[0], "unverified@example.com")),
            (1, verified(&rows[1], "ben@work.example")),
            // a verified address of an earlier record
            (1, unverified(&rows[1], "Ann@Work.example")),
            // the primary address of a later record
            (2, verified(&rows[2], "dee@example.com")),
            // no account has verified this address yet
            (3, verified(&rows[3], "unverified@example.com")),
        ];
        let outcomes = import(&sql, "a", &rows, &emails).await;
        assert_eq!(outcomes, [Inserted, EmailTaken, EmailTaken, Inserted]);
        assert_eq!(sql.secondary_emails(rows[0].id).await.unwrap().len(), 2);
        assert_eq!(find(&sql, "ann@work.example").await.unwrap().id, rows[0].id);
        assert_eq!(find(&sql, "ben@work.example").await, None);
        assert_eq!(find(&sql, "unverified@example.com").await.unwrap().id, rows[3].id);
        // The primary address of a record is a verified secondary address of another account.
        let rows = [new_account("ann@WORK.example"), new_account("eve@example.com")];
        assert_eq!(import(&sql, "b", &rows, &[]).await, [EmailTaken, Inserted]);
    })
    .await;
}

#[tokio::test]
async fn import_of_a_row_with_a_taken_secondary_address_leaves_its_values_to_other_rows() {
    use ImportOutcome::{EmailTaken, Inserted, UsernameTaken};
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.insert_account(&new_account("taken@example.com")).await.unwrap();
        let rows = [
            // its secondary address is the primary address of row 2
            new_account("zoe@example.com"),
            // one of its secondary addresses is taken
            with_username("ann@example.com", "ann"),
            // gets the primary address that row 1 leaves
            new_account("Ann@example.com"),
            // gets the username and the secondary address that row 1 leaves
            with_username("ben@example.com", "Ann"),
            // row 3 has the username of row 4, and row 2 the address of row 5
            with_username("cy@example.com", "ANN"),
            new_account("ann@EXAMPLE.com"),
        ];
        let emails = [
            (0, unverified(&rows[0], "ann@example.com")),
            (1, verified(&rows[1], "free@example.com")),
            (1, verified(&rows[1], "taken@example.com")),
            (3, verified(&rows[3], "free@example.com")),
        ];
        let outcomes = import(&sql, "a", &rows, &emails).await;
        assert_eq!(outcomes, [EmailTaken, EmailTaken, Inserted, Inserted, UsernameTaken, EmailTaken]);
        assert_eq!(find(&sql, "ann@example.com").await.unwrap().id, rows[2].id);
        assert_eq!(find(&sql, "free@example.com").await.unwrap().id, rows[3].id);
        // The row with the primary address is refused, so the address stays free for the first row.
        let rows = [new_account("eve@example.com"), new_account("eve@work.example")];
        let emails = [(0, verified(&rows[0], "eve@work.example")), (1, verified(&rows[1], "taken@example.com"))];
        let outcomes = import(&sql, "b", &rows, &emails).await;
        assert_eq!(outcomes, [Inserted, EmailTaken]);
        assert_eq!(find(&sql, "eve@work.example").await.unwrap().id, rows[0].id);
    })
    .await;
}
