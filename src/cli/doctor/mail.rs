//! Checks of mail and pages: the templates, the SMTP server, the queue, and a test mail on request.

use std::{sync::Arc, time::Duration};

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
    store::sql::{OutboxState, Sql, SqlError},
};

const CHECK: &str = "mail";

/// The age of a waiting mail above which the doctor warns.
const MAX_QUEUE_AGE: Duration = Duration::from_mins(15);

/// Checks the transport of mails, and the templates of mails and pages. Sends a test mail if there is a `test_recipient`.
pub(super) async fn check(config: &Config, clock: &Clock, test_recipient: Option<&Email>) -> Vec<Finding> {
    let sealer = Arc::new(Sealer::new(&config.secrets));
    // loads the templates of the mails
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

/// Checks the connection to the SMTP server, if one is configured.
async fn check_transport(config: &Config, mailer: &Mailer) -> Finding {
    if let MailTransport::Files(folder) = &config.mail.transport {
        // without `Mailer::check`, which would create the folder: the doctor changes nothing
        let detail = format!("no SMTP server is configured: mails become files in {}", folder.display());
        if config.multi_node {
            // each node writes to its own folder, so an operator would have to search them all
            return Finding::warn(CHECK, format!("{detail}; set mail.url (LATCHKEY_MAIL_URL)"));
        }
        return Finding::ok(CHECK, detail);
    }
    match mailer.check().await {
        Ok(detail) => Finding::ok(CHECK, detail),
        Err(error) => Finding::fail(
            CHECK,
            format!("{error}; correct mail.url (LATCHKEY_MAIL_URL). Mails wait in the outbox until then"),
        ),
    }
}

/// Sends the test mail at once, without the outbox.
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
pub(super) async fn check_queue(sql: &Sql, clock: &Clock) -> Result<Vec<Finding>, SqlError> {
    let queue = sql.mail_queue().await?;
    let mut findings = Vec::new();
    let oldest_age = queue.oldest.map(|created_at| clock.now().saturating_since(created_at));
    if let Some(age) = oldest_age
        && age > MAX_QUEUE_AGE
    {
        let minutes = age.as_secs() / 60;
        let detail = format!(
            "{} mails wait, the oldest for {minutes} minutes; `latchkey mail list --state waiting` shows why",
            queue.waiting
        );
        findings.push(Finding::warn(CHECK, detail));
    }
    let limit = 1; // one failed mail suffices for the warning
    let failed = sql.mails(Some(OutboxState::Failed), limit).await?;
    if !failed.is_empty() {
        let detail = "mails were rejected or have expired; `latchkey mail list --state failed` shows why";
        findings.push(Finding::warn(CHECK, detail));
    }
    Ok(findings)
}
