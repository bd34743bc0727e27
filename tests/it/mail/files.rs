//! Delivery of mails to files, which is the default: content and permissions of the files, and the data that stays in the database.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use latchkey::{
    config::Sender,
    domain::mail::{ActionOrigin, Device, MailData, Notice, Template},
    store::sql::OutboxState,
};

use super::{CODE, TOKEN, enqueue, mail, recipient, verification_mail, wait_until_mails_are_done};
use crate::harness::{test_cluster::TestCluster, wait};

#[tokio::test]
async fn mail_becomes_a_private_file_with_link_and_code() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    enqueue(&node.state, &verification_mail("ann@bücher.example", cluster.clock.now())).await;
    let found = cluster.mail_to("ann@xn--bcher-kva.example", "verify_address").await; // the domain in Punycode
    assert_eq!((found.token(), found.code()), (TOKEN, CODE));
    assert!(found.html.contains(TOKEN) && found.html.contains(CODE), "{}", found.html);
    let path = cluster.folder().join("mail").join(&found.file);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn mail_of_a_killed_node_is_sent_by_another() {
    let cluster = TestCluster::new();
    let mut first = cluster.node().await;
    first.kill_mail();
    enqueue(&first.state, &verification_mail("ann@example.com", cluster.clock.now())).await;
    // The first node claims the mail, and is killed before it sends the mail.
    let lease = Duration::from_mins(5);
    assert_eq!(first.state.sql.claim_mails(1, cluster.clock.now(), lease).await.unwrap().len(), 1);
    drop(first);
    let second = cluster.node().await;
    // After the lease, another node may claim the mail.
    cluster.advance(lease);
    cluster.mail_to("ann@example.com", "verify_address").await;
    wait_until_mails_are_done(&second.state.sql).await;
}

#[tokio::test]
async fn link_and_code_are_unreadable_in_database_before_and_after_sending() {
    let cluster = TestCluster::new();
    let mut node = cluster.node().await;
    // the mail stays in the outbox until another node starts
    node.stop_mail().await;
    let verification = verification_mail("ann@example.com", cluster.clock.now());
    let prepared = node.state.mailer.prepare(&verification).unwrap().expect("the mail is not disabled");
    node.state.sql.enqueue_mail(&prepared).await.unwrap();
    // the bytes of the database, its write-ahead log included
    let database = || {
        let files = fs::read_dir(cluster.folder()).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.is_file() && path.to_string_lossy().contains("latchkey.db"));
        files.flat_map(|path| fs::read(path).unwrap()).collect::<Vec<u8>>()
    };
    let contains = |bytes: &[u8], part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
    let before = database();
    assert!(contains(&before, "ann@example.com") && !contains(&before, TOKEN) && !contains(&before, CODE));

    let other = cluster.node().await;
    wait_until_mails_are_done(&other.state.sql).await;
    let row = other.state.sql.mail(prepared.id).await.unwrap().unwrap();
    assert_eq!(row.state, OutboxState::Sent);
    assert_eq!(row.attempts, 1);
    let after = database();
    assert!(!contains(&after, TOKEN) && !contains(&after, CODE));
    let all_mails = None;
    let retried = other.state.sql.retry_mails(all_mails, cluster.clock.now()).await.unwrap();
    assert_eq!(retried, 0, "the data of a sent mail is deleted");
}

#[tokio::test]
async fn headers_identify_the_mail_and_stop_automatic_answers() {
    let mut cluster = TestCluster::new();
    cluster.config.mail.from =
        Sender { name: Some("Acmé Ltd.".to_owned()), address: recipient("no-reply@mail.example.com") };
    cluster.config.mail.reply_to = Some(Sender { name: None, address: recipient("help@example.com") });
    cluster.config.mail.list_unsubscribe = Some("mailto:unsubscribe@example.com".to_owned());
    let node = cluster.node().await;
    let now = cluster.clock.now();
    enqueue(&node.state, &verification_mail("ann@example.com", now)).await;
    let device = Device::from_user_agent("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0");
    let origin = ActionOrigin { at: now, address: Some([192, 0, 2, 7].into()), device };
    let notice = Notice { origin, not_me: Some("https://auth.example.com/account/not-me#token=t".into()) };
    enqueue(&node.state, &mail("ann@example.com", MailData::NewDevice { notice })).await;

    let verification = cluster.mail_to("ann@example.com", "verify_address").await;
    // the file is named after the id of the mail
    let id = verification.file.split('.').next().unwrap();
    assert_eq!(verification.header("Message-ID"), format!("<{id}@mail.example.com>"));
    // the time at which the clock of a test cluster starts
    assert_eq!(verification.header("Date"), "Fri, 15 Jan 2027 08:00:00 +0000");
    assert_eq!(verification.header("Auto-Submitted"), "auto-generated");
    assert_eq!(verification.header("Reply-To"), "help@example.com");
    assert!(verification.header("From").ends_with("<no-reply@mail.example.com>"), "{:?}", verification.headers);
    assert!(!verification.has_header("List-Unsubscribe"), "the recipient requested this mail");
    let notice = cluster.mail_to("ann@example.com", "new_device").await;
    assert_eq!(notice.header("List-Unsubscribe"), "<mailto:unsubscribe@example.com>");
    for part in [&notice.text, &notice.html] {
        assert!(part.contains("192.0.2.7") && part.contains("Firefox, Linux"), "{part}");
    }
    node.stop().await;
}

#[tokio::test]
async fn line_break_in_sender_name_adds_no_header() {
    let mut cluster = TestCluster::new();
    cluster.config.mail.from.name = Some("Acme\r\nBcc: eve@evil.example".to_owned());
    let node = cluster.node().await;
    enqueue(&node.state, &verification_mail("ann@example.com", cluster.clock.now())).await;
    let found = cluster.mail_to("ann@example.com", "verify_address").await;
    assert!(!found.has_header("Bcc"), "{:?}", found.headers);
    assert!(found.headers.iter().all(|(name, _)| !name.contains(' ')), "a name has no spaces: {:?}", found.headers);
}

#[tokio::test]
async fn notice_that_is_off_is_not_prepared() {
    let mut cluster = TestCluster::new();
    cluster.config.mail.notices_off = vec![Template::AccountDisabled];
    let node = cluster.node().await;
    let notice = mail("ann@example.com", MailData::AccountDisabled { at: cluster.clock.now() });
    assert_eq!(node.state.mailer.prepare(&notice), Ok(None));
}

#[tokio::test]
async fn files_and_rows_are_deleted_after_the_retention() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    enqueue(&node.state, &verification_mail("ann@example.com", cluster.clock.now())).await;
    cluster.mail_to("ann@example.com", "verify_address").await;
    wait_until_mails_are_done(&node.state.sql).await;
    cluster.advance(cluster.config.mail.retention + Duration::from_secs(1));
    let any_state = None;
    let gone = || async {
        cluster.mails_to("ann@example.com").is_empty() && node.state.sql.mails(any_state, 1).await.unwrap().is_empty()
    };
    wait::until("the mail is deleted", gone).await;
}
