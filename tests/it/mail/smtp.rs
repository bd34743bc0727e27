//! Delivery to a real SMTP server: encryption, authentication, refusals and faults. No mail is lost, and no mail that the server
//! acknowledged is sent twice.
//!
//! Some recipients select a fault of the test server (`tests/tools/smtp_server.py`): `greylist@` (refused once), `reject@` (refused
//! always), `hang@` (no answer, once), `crash@` (disconnected during the message, once) and `lost@` (disconnected after it, once).

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use latchkey::{
    config::{MailTransport, SmtpSecurity},
    domain::mail::MailData,
    store::sql::{OutboxRow, OutboxState},
};

use super::{TOKEN, enqueue, newest_row, verification_mail, wait_for_failed_attempt, wait_until_mails_are_done};
use crate::harness::{smtp::SmtpServer, test_cluster::TestCluster, wait};

/// The server requires no authentication.
const NO_USER: Option<&str> = None;

/// A cluster whose nodes send mails to this server.
fn cluster(server: &SmtpServer) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.mail.transport = server.transport();
    cluster
}

fn advance_to_next_attempt(cluster: &TestCluster, row: &OutboxRow) {
    cluster.advance(row.due_at.saturating_since(cluster.clock.now()));
}

#[tokio::test]
async fn mail_is_sent_over_starttls_and_tls_with_authentication() {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Tls] {
        let server = SmtpServer::start(security, Some("latchkey:hunter2 with spaces"));
        let cluster = cluster(&server);
        let node = cluster.node().await;
        enqueue(&node.state, &verification_mail("zoë@bücher.example", cluster.clock.now())).await;
        let received = server.wait_for(1).await.remove(0);
        assert!(received.is_encrypted && received.is_authenticated, "{security:?}");
        assert_eq!(received.from, "no-reply@auth.example.com");
        assert_eq!(received.to, "zoë@xn--bcher-kva.example"); // the domain in Punycode
        assert_eq!(received.mail.token(), TOKEN);
        wait_until_mails_are_done(&node.state.sql).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn mail_is_not_sent_without_the_configured_encryption_or_user() {
    let plain = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let strict = SmtpServer::start(SmtpSecurity::StartTls, Some("latchkey:right"));
    let mut wrong_password = strict.settings();
    wrong_password.credentials.as_mut().unwrap().password = "wrong".into();
    let mut untrusted = strict.settings();
    untrusted.tls_ca = None; // no longer trusts the test server's certificate authority
    let mut without_starttls = plain.settings();
    without_starttls.security = SmtpSecurity::StartTls;
    // 535 is the reply of SMTP to wrong credentials
    for (settings, cause) in [(without_starttls, "STARTTLS"), (wrong_password, "535"), (untrusted, "certificate")] {
        let mut cluster = TestCluster::new();
        cluster.config.mail.transport = MailTransport::Smtp(settings);
        let node = cluster.node().await;
        enqueue(&node.state, &verification_mail("ann@example.com", cluster.clock.now())).await;
        let row = wait_for_failed_attempt(&node.state.sql).await;
        assert_eq!(row.state, OutboxState::Waiting, "a mistake in the settings loses no mail");
        let error = row.error.unwrap();
        assert!(error.contains(cause), "{error}");
        assert!(!error.contains("wrong"), "the error omits the password: {error}");
        assert!(node.state.mailer.check().await.unwrap_err().to_string().contains(cause));
        node.stop().await;
    }
    assert!(plain.rcpt_commands().is_empty() && strict.rcpt_commands().is_empty(), "no server received a RCPT command");
}

#[tokio::test]
async fn greylisted_mail_is_sent_by_a_later_attempt() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    enqueue(&node.state, &verification_mail("greylist@example.com", cluster.clock.now())).await;
    let row = wait_for_failed_attempt(&node.state.sql).await;
    assert!(row.error.as_ref().unwrap().contains("greylisted"), "{row:?}");
    let delay = row.due_at.saturating_since(cluster.clock.now());
    // `mail.retry_first` is 30 s, less a random part of at most half
    let possible = Duration::from_secs(15)..=Duration::from_secs(30);
    assert!(possible.contains(&delay), "{delay:?}");
    advance_to_next_attempt(&cluster, &row);
    server.wait_for(1).await;
    wait_until_mails_are_done(&node.state.sql).await;
    let row = newest_row(&node.state.sql).await.unwrap();
    assert_eq!(row.state, OutboxState::Sent);
    assert_eq!(row.attempts, 2);
}

#[tokio::test]
async fn rejected_mail_fails_and_can_be_retried() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    enqueue(&node.state, &verification_mail("reject@example.com", cluster.clock.now())).await;
    wait_until_mails_are_done(&node.state.sql).await;
    let failed = newest_row(&node.state.sql).await.unwrap();
    assert_eq!(failed.state, OutboxState::Failed);
    assert_eq!(failed.attempts, 1);
    assert!(failed.error.unwrap().contains("550"));
    let retried = node.state.sql.retry_mails(Some(failed.id), cluster.clock.now()).await.unwrap();
    assert_eq!(retried, 1);
    wait::until("the server was tried again", || async { server.rcpt_commands().len() == 2 }).await;
}

#[tokio::test]
async fn unanswered_mail_does_not_delay_another_mail() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let mut settings = server.settings();
    settings.timeout = Duration::from_secs(1);
    let mut cluster = TestCluster::new();
    cluster.config.mail.transport = MailTransport::Smtp(settings);
    let node = cluster.node().await;
    let now = cluster.clock.now();
    enqueue(&node.state, &verification_mail("hang@example.com", now)).await;
    enqueue(&node.state, &verification_mail("ann@example.com", now)).await;
    let first = server.wait_for(1).await;
    assert_eq!(first[0].to, "ann@example.com");
    let has_timed_out = || async {
        let rows = node.state.sql.mails(Some(OutboxState::Waiting), 10).await.unwrap();
        rows.iter().filter_map(|row| row.error.as_deref()).any(|error| error.contains("mail.timeout"))
    };
    wait::until("the attempt timed out", has_timed_out).await;
    // longer than `mail.retry_first` (30 s); the server answers the second attempt
    cluster.advance(Duration::from_mins(2));
    server.wait_for(2).await;
    wait_until_mails_are_done(&node.state.sql).await;
}

#[tokio::test]
async fn connection_lost_in_the_message_loses_no_mail() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    enqueue(&node.state, &verification_mail("crash@example.com", cluster.clock.now())).await;
    let row = wait_for_failed_attempt(&node.state.sql).await;
    assert!(server.received().is_empty());
    advance_to_next_attempt(&cluster, &row);
    server.wait_for(1).await;
    wait_until_mails_are_done(&node.state.sql).await;
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn mail_sent_again_after_a_lost_acknowledgement_has_the_same_message_id() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    enqueue(&node.state, &verification_mail("lost@example.com", cluster.clock.now())).await;
    let row = wait_for_failed_attempt(&node.state.sql).await;
    advance_to_next_attempt(&cluster, &row);
    let received = server.wait_for(2).await;
    // mail programs show copies with equal headers once
    let first = &received[0].mail;
    let second = &received[1].mail;
    assert_eq!(first.header("Message-ID"), second.header("Message-ID"));
    assert_eq!(first.header("Date"), second.header("Date"));
    wait_until_mails_are_done(&node.state.sql).await;
}

#[tokio::test]
async fn two_nodes_send_each_mail_once() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let cluster = cluster(&server);
    let nodes = [cluster.node().await, cluster.node().await];
    for number in 0..60 {
        let mail = verification_mail(&format!("user{number}@example.com"), cluster.clock.now());
        enqueue(&nodes[number % 2].state, &mail).await;
    }
    server.wait_for(60).await;
    wait_until_mails_are_done(&nodes[0].state.sql).await;
    let recipients: Vec<_> = server.received().into_iter().map(|mail| mail.to).collect();
    assert_eq!(recipients.len(), 60);
    assert_eq!(recipients.iter().collect::<BTreeSet<_>>().len(), 60);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn outage_of_an_hour_causes_few_attempts_and_loses_no_mail() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let cluster = cluster(&server);
    server.refuse_connections();
    let node = cluster.node().await;
    let now = cluster.clock.now();
    for number in 0..50 {
        let mut mail = verification_mail(&format!("user{number}@example.com"), now);
        if let MailData::VerifyAddress { challenge } = &mut mail.data {
            // later than the end of the outage
            challenge.expires_at = now + Duration::from_hours(2);
        }
        enqueue(&node.state, &mail).await;
    }
    let waiting_mails = || async { node.state.sql.mails(Some(OutboxState::Waiting), 100).await.unwrap() };
    let count_attempts = |rows: &[OutboxRow]| rows.iter().map(|row| row.attempts).sum::<u32>();
    // in a cell, because `wait::until` only learns whether to stop
    let attempts_before = Cell::new(0);
    // an hour, in steps that are longer than the pause between two probes of the server
    for _ in 0..12 {
        cluster.advance(Duration::from_mins(5));
        let has_failed = || async {
            let rows = waiting_mails().await;
            let attempts = count_attempts(&rows);
            // a claimed mail is being tried, and its attempt has no result yet
            let is_new_result = attempts > attempts_before.get() && !rows.iter().any(|row| row.is_claimed);
            if is_new_result {
                attempts_before.set(attempts);
            }
            is_new_result
        };
        wait::until("a probe has failed", has_failed).await;
    }
    let waiting = waiting_mails().await;
    assert_eq!(waiting.len(), 50, "all mails still wait");
    let attempts = count_attempts(&waiting);
    assert!(attempts < 50, "fewer than one attempt for each mail: {attempts}");
    let metrics = latchkey::service::metrics::render(&node.state).await.unwrap();
    assert!(metrics.contains("latchkey_mail_server_reachable 0"), "{metrics}");
    // a node without a mail server is ready
    node.get_anonymously("/readyz").await.expect(200);

    server.accept_connections();
    // longer than `mail.retry_max` (30 min)
    cluster.advance(Duration::from_mins(31));
    server.wait_for(50).await;
    wait_until_mails_are_done(&node.state.sql).await;
    assert_eq!(server.received().len(), 50);
}

#[tokio::test]
async fn full_outbox_refuses_codes_and_drops_notices() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    server.refuse_connections();
    let mut cluster = cluster(&server);
    cluster.config.mail.max_queued = 100;
    let node = cluster.node().await;
    let now = cluster.clock.now();
    // a prepared mail counts as queued
    let prepared: Vec<_> =
        (0..101).map(|_| node.state.mailer.prepare(&verification_mail("ann@example.com", now))).collect();
    assert!(prepared[..100].iter().all(|mail| matches!(mail, Ok(Some(_)))));
    assert!(prepared[100].is_err());
    let notice = super::mail("ann@example.com", MailData::AccountDisabled { at: now });
    assert_eq!(node.state.mailer.prepare(&notice), Ok(None), "the notice is dropped, so that the change does not fail");
}

#[tokio::test]
async fn expired_mail_is_not_sent() {
    let server = SmtpServer::start(SmtpSecurity::None, NO_USER);
    let cluster = cluster(&server);
    let mut node = cluster.node().await;
    // nothing sends the mail before it expires
    node.stop_mail().await;
    enqueue(&node.state, &verification_mail("ann@example.com", cluster.clock.now())).await;
    // the lifetime of the link in `verification_mail`
    cluster.advance(Duration::from_hours(1));
    let other = cluster.node().await;
    wait_until_mails_are_done(&other.state.sql).await;
    assert_eq!(newest_row(&other.state.sql).await.unwrap().state, OutboxState::Failed);
    assert!(server.rcpt_commands().is_empty());
    let every_mail = None;
    let retried = other.state.sql.retry_mails(every_mail, cluster.clock.now()).await.unwrap();
    assert_eq!(retried, 0, "an expired mail is not sent later either");
}
