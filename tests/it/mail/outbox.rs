//! The outbox table on every kind of database: mails in the transaction of a change, leases, results of attempts, and retention.

use std::time::Duration;

use latchkey::{
    domain::{
        clock::Timestamp,
        entropy::Entropy,
        locale::Locale,
        mail::{MailId, OutboxMail, Template},
    },
    store::sql::{ClaimedMail, DeliveryResult, OutboxState, Sql},
};

use super::recipient;
use crate::sql::{LATER, NOW, new_account, on_every_backend};

const LEASE: Duration = Duration::from_secs(60);

/// Stands for the encrypted data of a mail.
const SEALED: [u8; 3] = [1, 2, 3];

/// A mail that expires 24 hours after it was created.
pub fn outbox_mail(created_at: Timestamp) -> OutboxMail {
    OutboxMail {
        id: MailId(Entropy::system().ordered_uuid(created_at)),
        template: Template::PasswordReset,
        account: None,
        recipient: recipient("ann@example.com"),
        locale: Locale::De,
        sealed: SEALED.to_vec(),
        created_at,
        expires_at: created_at + Duration::from_hours(24),
    }
}

/// Claims the mails that are due, and asserts that there is exactly one.
async fn claim_one(sql: &Sql, now: Timestamp) -> ClaimedMail {
    let mut claimed = sql.claim_mails(10, now, LEASE).await.unwrap();
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

#[tokio::test]
async fn mail_of_a_change_exists_only_after_its_commit() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let account = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        for (commits, count) in [(false, 0), (true, 1)] {
            let mut change = sql.change_account(account.id).await.unwrap().unwrap();
            change.set_disabled(Some(NOW), NOW).await.unwrap();
            change.enqueue(&OutboxMail { account: Some(account.id), ..outbox_mail(NOW) }).await.unwrap();
            if commits {
                change.commit().await.unwrap();
                sql.wait_for_enqueued_mail().await; // the commit wakes the workers
            } else {
                drop(change);
            }
            let any_state = None;
            assert_eq!(sql.mails(any_state, 10).await.unwrap().len(), count);
        }
        let row = sql.mails(Some(OutboxState::Waiting), 10).await.unwrap().remove(0);
        assert_eq!(row.account, Some(account.id));
        assert_eq!(row.attempts, 0);
        assert!(!row.is_claimed);
        assert_eq!(row.template, Template::PasswordReset);
        assert_eq!(row.locale, Locale::De);
        assert_eq!(row.recipient, "ann@example.com");
    })
    .await;
}

#[tokio::test]
async fn concurrent_workers_claim_each_mail_once() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let mut expected = Vec::new();
        for _ in 0..40 {
            let mail = outbox_mail(NOW);
            sql.enqueue_mail(&mail).await.unwrap();
            expected.push(mail.id);
        }
        expected.sort();
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let sql = sql.clone();
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    loop {
                        let claimed = sql.claim_mails(3, NOW, LEASE).await.unwrap();
                        // If mails are left, other workers have locked their rows, and claim them.
                        if claimed.is_empty() {
                            return ids;
                        }
                        ids.extend(claimed.into_iter().map(|mail| mail.row.id));
                    }
                })
            })
            .collect();
        let mut ids = Vec::new();
        for worker in workers {
            ids.extend(worker.await.unwrap());
        }
        ids.sort();
        assert_eq!(ids, expected, "no mail is claimed twice or left out");
    })
    .await;
}

#[tokio::test]
async fn mail_is_claimed_again_after_its_lease_and_result_of_first_claim_is_refused() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.enqueue_mail(&outbox_mail(NOW)).await.unwrap();
        let first = claim_one(&sql, NOW).await;
        let just_before_end = NOW + LEASE - Duration::from_millis(1);
        assert!(sql.claim_mails(10, just_before_end, LEASE).await.unwrap().is_empty());
        let second = claim_one(&sql, NOW + LEASE).await;
        assert_eq!(second.row.attempts, 2);
        assert_eq!(second.sealed[..], SEALED);
        let late_result = DeliveryResult::GivenUp("late".to_owned());
        let is_accepted = sql.finish_mail(&first, &late_result, LATER).await.unwrap();
        assert!(!is_accepted);
        let is_accepted = sql.finish_mail(&second, &DeliveryResult::Sent, LATER).await.unwrap();
        assert!(is_accepted);
        let row = sql.mail(second.row.id).await.unwrap().unwrap();
        assert_eq!(row.state, OutboxState::Sent);
        assert_eq!(row.error, None);
        assert_eq!(row.done_at, Some(LATER));
    })
    .await;
}

#[tokio::test]
async fn results_set_state_and_delete_data() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.enqueue_mail(&outbox_mail(NOW)).await.unwrap();
        let mail = claim_one(&sql, NOW).await;
        let due = NOW + Duration::from_secs(30);
        sql.finish_mail(&mail, &DeliveryResult::Retry("451 try later".to_owned(), due), NOW).await.unwrap();
        assert!(sql.claim_mails(10, NOW, LEASE).await.unwrap().is_empty());
        assert_eq!(sql.mail_queue().await.unwrap().waiting, 1);

        let mail = claim_one(&sql, due).await;
        assert_eq!(mail.row.error.as_deref(), Some("451 try later"));
        assert_eq!(mail.row.attempts, 2);
        sql.finish_mail(&mail, &DeliveryResult::GivenUp("550 no such mailbox".to_owned()), due).await.unwrap();
        assert_eq!(sql.mail_queue().await.unwrap().waiting, 0);
        let retried = sql.retry_mails(Some(mail.row.id), due).await.unwrap();
        assert_eq!(retried, 1, "a failed mail can be retried: its data is kept");
        let mail = claim_one(&sql, due).await;
        sql.finish_mail(&mail, &DeliveryResult::Sent, due).await.unwrap();
        let all_mails = None;
        let retried = sql.retry_mails(all_mails, due).await.unwrap();
        assert_eq!(retried, 0, "the data of a sent mail is deleted");

        // `prune_mails` deletes the mails that were sent before the given time. This mail was sent at `due`.
        assert!(sql.prune_mails(due, 10).await.unwrap().is_empty());
        assert_eq!(sql.prune_mails(due + Duration::from_millis(1), 10).await.unwrap(), [mail.row.id]);
        let any_state = None;
        assert!(sql.mails(any_state, 10).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn rejected_mail_loses_its_data_when_it_expires() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let mail = outbox_mail(NOW);
        sql.enqueue_mail(&mail).await.unwrap();
        let claimed = claim_one(&sql, NOW).await;
        sql.finish_mail(&claimed, &DeliveryResult::GivenUp("550 no such mailbox".to_owned()), NOW).await.unwrap();
        assert_eq!(sql.wipe_expired_mails(NOW).await.unwrap(), 0, "not expired yet");
        assert_eq!(sql.wipe_expired_mails(mail.expires_at).await.unwrap(), 1);
        // At `NOW` the mail is not expired: only its missing data prevents the retry.
        let all_mails = None;
        assert_eq!(sql.retry_mails(all_mails, NOW).await.unwrap(), 0);
    })
    .await;
}
