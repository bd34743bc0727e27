//! Prepares mails for the outbox, and opens, renders and delivers the mails that a worker has claimed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    config::MailSettings,
    crypto::seal::{SealError, Sealer},
    domain::{
        account::Email,
        clock::{Clock, Timestamp},
        entropy::Entropy,
        mail::{Mail, MailData, MailId, OutboxMail, Recipient, RecipientError},
    },
    mail::{DeliveryError, TemplateError, Templates, Transport, message},
    metrics::MailMetrics,
    store::sql::{ClaimedMail, OutboxRow},
};

/// Why a mail was not prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// `mail.max_queued` mails already wait. A later call may succeed.
    #[error("too many mails wait to be sent (mail.max_queued)")]
    QueueFull,
}

/// Why a node can't send mails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailerError {
    /// A template can't be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A setting of the SMTP server can't be used.
    #[error("{0}")]
    Setting(String),
}

/// Why a claimed mail was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The data can't be opened on this node. Another node may have the secret.
    #[error("the mail's data can't be opened: {0}")]
    Sealed(SealError),
    /// The mail can't be built, on any node.
    #[error("{0}")]
    Unusable(String),
    /// The transport has not delivered the mail.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// The encrypted part of a mail.
#[derive(Serialize, Deserialize)]
struct Payload {
    data: MailData,
    /// See [`Mail::time_zone`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
}

/// Prepares mails for the outbox, and delivers claimed ones.
#[derive(Debug)]
pub struct Mailer {
    settings: MailSettings,
    clock: Clock,
    entropy: Entropy,
    sealer: Arc<Sealer>,
    templates: Templates,
    transport: Transport,
    /// The number of waiting mails when they were last counted, plus the number prepared since.
    queued: AtomicU64,
    /// Counters and gauges.
    pub metrics: MailMetrics,
}

impl Mailer {
    /// Loads and checks the templates. Opens no connection.
    ///
    /// # Errors
    /// [`MailerError`]
    pub fn new(
        settings: &MailSettings,
        issuer: &str,
        clock: Clock,
        entropy: Entropy,
        sealer: Arc<Sealer>,
    ) -> Result<Self, MailerError> {
        Ok(Self {
            settings: settings.clone(),
            clock,
            entropy,
            sealer,
            templates: Templates::load(settings, issuer)?,
            transport: Transport::new(settings).map_err(MailerError::Setting)?,
            queued: AtomicU64::new(0),
            metrics: MailMetrics::default(),
        })
    }

    /// Encrypts a mail, which the caller then stores in the outbox (`AccountChange::enqueue`, `Sql::enqueue_mail`). Returns `None` for a
    /// notice that is switched off (`mail.notices_off`), and for a notice while the queue is full: this must not fail the change that
    /// the notice reports.
    ///
    /// # Errors
    /// [`PrepareError`]
    pub fn prepare(&self, mail: &Mail) -> Result<Option<OutboxMail>, PrepareError> {
        let template = mail.data.template();
        if self.settings.notices_off.contains(&template) {
            return Ok(None);
        }
        if self.queued.load(Ordering::Relaxed) >= self.settings.max_queued {
            self.metrics.dropped.with_label_values(&[template.as_str()]).inc();
            if template.is_notice() {
                let account = mail.account.map(tracing::field::display);
                tracing::warn!(
                    account,
                    %template,
                    "mail: notice dropped, because the outbox is full (mail.max_queued); check that the mail server accepts mails"
                );
                return Ok(None);
            }
            return Err(PrepareError::QueueFull);
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        let id = MailId(self.entropy.ordered_uuid(now));
        let payload = Payload { data: mail.data.clone(), time_zone: mail.time_zone.clone() };
        let plain = Zeroizing::new(serde_json::to_vec(&payload).expect("a payload can be serialized"));
        // Nobody needs a mail whose link or code has expired.
        let give_up_at = now + self.settings.give_up_after;
        let expires_at = mail.data.expires_at().map_or(give_up_at, |unusable_at| give_up_at.min(unusable_at));
        Ok(Some(OutboxMail {
            id,
            template,
            account: mail.account,
            recipient: mail.to.clone(),
            locale: mail.locale,
            sealed: self.sealer.seal(&plain, &aad(id), &self.entropy),
            created_at: now,
            expires_at,
        }))
    }

    /// Stores the number of waiting mails, as counted in the database, and reports it with the age of the `oldest` one in metrics.
    pub(crate) fn set_queue(&self, waiting: u64, oldest: Option<Timestamp>) {
        self.queued.store(waiting, Ordering::Relaxed);
        let age = oldest.map_or(Duration::ZERO, |oldest| self.clock.now().saturating_since(oldest));
        self.metrics.set_queue(waiting, age);
    }

    /// Renders and delivers a claimed mail.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send(&self, claimed: &ClaimedMail) -> Result<(), SendError> {
        let mail = self.open(claimed)?;
        let OutboxRow { id, template, created_at, .. } = claimed.row;
        let rendered = self.templates.render(&mail).map_err(|error| SendError::Unusable(error.to_string()))?;
        let built =
            message(&self.settings, id, created_at, template, &mail.to, &rendered).map_err(SendError::Unusable)?;
        self.transport.deliver(id, template, &built).await?;
        Ok(())
    }

    fn open(&self, claimed: &ClaimedMail) -> Result<Mail, SendError> {
        let OutboxRow { id, account, locale, .. } = claimed.row;
        let opened = self.sealer.open(&claimed.sealed, &aad(id)).map_err(SendError::Sealed)?;
        let payload: Payload = serde_json::from_slice(&opened.bytes)
            .map_err(|_| SendError::Unusable("the mail's data has an unknown format".to_owned()))?;
        let to = Recipient::new(&Email::from_stored(claimed.row.recipient.clone()))
            .map_err(|error: RecipientError| SendError::Unusable(error.to_string()))?;
        Ok(Mail { to, locale, time_zone: payload.time_zone, account, data: payload.data })
    }

    /// Deletes the file of a mail, if mails are delivered to files.
    pub(crate) async fn delete_file(&self, id: MailId) {
        self.transport.delete_file(id).await;
    }

    /// Connects to the SMTP server, or creates the folder of mails. Returns a sentence for the operator about the result.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn check(&self) -> Result<String, DeliveryError> {
        self.transport.check().await
    }

    /// Sends a mail at once, without the outbox. Used to test the configuration.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send_now(&self, mail: &Mail) -> Result<MailId, SendError> {
        let now = self.clock.now();
        let id = MailId(self.entropy.ordered_uuid(now));
        let rendered = self.templates.render(mail).map_err(|error| SendError::Unusable(error.to_string()))?;
        let template = mail.data.template();
        let built = message(&self.settings, id, now, template, &mail.to, &rendered).map_err(SendError::Unusable)?;
        self.transport.deliver(id, template, &built).await?;
        Ok(id)
    }

    /// The settings.
    pub const fn settings(&self) -> &MailSettings {
        &self.settings
    }
}

/// The additional authenticated data that binds encrypted data to its row.
fn aad(id: MailId) -> Vec<u8> {
    format!("mail:{id}").into_bytes()
}
