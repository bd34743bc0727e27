//! Checks of mail and pages: the templates, the SMTP server, the queue, and a test mail on request.

use std::time::Duration;

use super::Finding;
use crate::{
    config::{Config, MailTransport},
    crypto::seal::Sealer,
    domain::{
        account::Email,
        clock::Clock,
        entropy::Entropy,
        mail::{Mail, MailData, Recipient},
    },
    pages::Pages,
    state::mailer::Mailer,
    store::sql::{OutboxState, Sql},
};

const CHECK: &str = "mail";

/// The age of a waiting mail above which there is a warning.
const MAX_QUEUE_AGE: Duration = Duration::from_mins(15);

/// Checks the templates and the transport, and sends a test mail to `test_recipient`.
pub(super) async fn check(config: &Config, clock: &Clock, test_recipient: Option<&Email>) -> Vec<Finding> {
    let sealer = Sealer::new(&config.secrets);
    // loads the templates
    let mailer = match Mailer::new(&config.mail, &config.issuer, clock.clone(), Entropy::system(), sealer) {
        Ok(mailer) => mailer,
        Err(error) => return vec![Finding::fail(CHECK, error.to_string())],
    };
    let mut findings = vec![check_transport(config, &mailer).await];
    if config.pages.enabled
        && let Err(error) = Pages::load(config)
    {
        findings.push(Finding::fail("pages", error.to_string()));
    }
    if let Some(address) = test_recipient {
        findings.push(send_test(&mailer, address, config, clock).await);
    }
    findings
}

async fn check_transport(config: &Config, mailer: &Mailer) -> Finding {
    if let MailTransport::Files(folder) = &config.mail.transport {
        // checked without creating the folder: the doctor changes nothing
        let detail = format!("no SMTP server is configured: mails become files in {}", folder.display());
        return match config.multi_node {
            false => Finding::ok(CHECK, detail),
            true => Finding::warn(CHECK, format!("{detail}; set mail.url (LATCHKEY_MAIL_URL)")),
        };
    }
    match mailer.check().await {
        Ok(detail) => Finding::ok(CHECK, detail),
        Err(error) => Finding::fail(
            CHECK,
            format!("{error}; correct mail.url (LATCHKEY_MAIL_URL). Mails wait in the outbox until then"),
        ),
    }
}

async fn send_test(mailer: &Mailer, address: &Email, config: &Config, clock: &Clock) -> Finding {
    let to = match Recipient::new(address) {
        Ok(to) => to,
        Err(error) => return Finding::fail(CHECK, format!("--test-mail: {error}")),
    };
    let data = MailData::Test { at: clock.now() };
    let mail = Mail { to, locale: config.mail.default_locale, time_zone: None, account: None, data };
    match mailer.send_now(&mail).await {
        Ok(id) => Finding::ok(CHECK, format!("sent the test mail {id} to {}", mail.to.as_str())),
        Err(error) => Finding::fail(CHECK, format!("the test mail was not sent: {error}")),
    }
}

/// Checks the queue: mails that wait for long, and mails that were rejected or have expired.
///
/// # Errors
/// If the database does not answer.
pub(super) async fn check_queue(sql: &Sql, clock: &Clock) -> Result<Vec<Finding>, crate::store::sql::SqlError> {
    let queue = sql.mail_queue().await?;
    let mut findings = Vec::new();
    let age = queue.oldest.map(|oldest| clock.now().saturating_since(oldest));
    if let Some(age) = age.filter(|age| *age > MAX_QUEUE_AGE) {
        let minutes = age.as_secs() / 60;
        let detail = format!(
            "{} mails wait, the oldest for {minutes} minutes; `latchkey mail list --state waiting` shows why",
            queue.waiting
        );
        findings.push(Finding::warn(CHECK, detail));
    }
    let any_failed = !sql.mails(Some(OutboxState::Failed), 1).await?.is_empty();
    if any_failed {
        let detail = "mails were rejected or have expired; `latchkey mail list --state failed` shows why";
        findings.push(Finding::warn(CHECK, detail));
    }
    Ok(findings)
}
