//! Mail: the outbox on every kind of database, delivery to files and to a real SMTP server, headers, and commands.

mod commands;
mod files;
mod outbox;
mod smtp;

use std::time::Duration;

use latchkey::{
    domain::{
        account::Email,
        clock::Timestamp,
        locale::Locale,
        mail::{LinkAndCode, Mail, MailData, Recipient},
    },
    state::AppState,
    store::sql::{OutboxRow, OutboxState, Sql},
};

use crate::harness::wait;

/// The one-time token in the link of [`verification_mail`].
pub const TOKEN: &str = "lk_ot_0123456789abcdef";
/// The code of [`verification_mail`].
pub const CODE: &str = "K7QM2XWD";

pub fn recipient(address: &str) -> Recipient {
    Recipient::new(&Email::parse(address).unwrap()).unwrap()
}

/// A mail with a link and a code, valid for an hour.
pub fn verification_mail(address: &str, now: Timestamp) -> Mail {
    let challenge = LinkAndCode {
        link: format!("https://auth.example.com/account/verify-address#token={TOKEN}").into(),
        code: Some(CODE.into()),
        expires_at: now + Duration::from_hours(1),
    };
    mail(address, MailData::VerifyAddress { challenge })
}

/// A mail in English that belongs to no account.
pub fn mail(address: &str, data: MailData) -> Mail {
    Mail { to: recipient(address), locale: Locale::En, time_zone: None, account: None, data }
}

/// Queues a mail as the use cases of the service do.
pub async fn enqueue(state: &AppState, mail: &Mail) {
    // `prepare` returns `None` only for notices, if they are off or the queue is full.
    let prepared = state.mailer.prepare(mail).unwrap().unwrap();
    state.sql.enqueue_mail(&prepared).await.unwrap();
}

/// The newest mail of the outbox.
pub async fn newest_row(sql: &Sql) -> Option<OutboxRow> {
    let (in_any_state, limit) = (None, 1);
    sql.mails(in_any_state, limit).await.unwrap().pop()
}

/// Waits until an attempt to send the newest mail has failed, and returns the mail's row.
pub async fn wait_for_failed_attempt(sql: &Sql) -> OutboxRow {
    // a claimed mail is still being sent
    let has_failed = || async { newest_row(sql).await.is_some_and(|row| row.error.is_some() && !row.is_claimed) };
    wait::until("an attempt has failed", has_failed).await;
    newest_row(sql).await.unwrap()
}

/// Waits until every mail of the outbox was sent or has failed.
pub async fn wait_until_mails_are_done(sql: &Sql) {
    let limit = 1;
    let done = || async { sql.mails(Some(OutboxState::Waiting), limit).await.unwrap().is_empty() };
    wait::until("all mails are done", done).await;
}
