//! Delivers messages to an SMTP server or to files.

use lettre::Message;

use super::{files::MailFiles, smtp::SmtpClient};
use crate::{
    config::{MailSettings, MailTransport},
    domain::mail::{MailId, Template},
};

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The server or the folder can't be reached. Other messages would fail as well.
    #[error("{0}")]
    Unreachable(String),
    /// The server refuses the message for now (4xx): greylisting, a full mailbox.
    #[error("{0}")]
    Refused(String),
    /// The server refuses the message for good (5xx): no such mailbox.
    #[error("{0}")]
    Rejected(String),
}

/// Where messages are delivered.
#[derive(Debug)]
pub enum Transport {
    /// Each message becomes a file.
    Files(MailFiles),
    /// Messages are sent to an SMTP server.
    Smtp(Box<SmtpClient>),
}

impl Transport {
    /// Prepares the delivery. Opens no connection, and creates no folder.
    ///
    /// # Errors
    /// The reason why `mail.tls_ca` can't be used.
    pub fn new(settings: &MailSettings) -> Result<Self, String> {
        Ok(match &settings.transport {
            MailTransport::Files(folder) => Self::Files(MailFiles::new(folder.clone())),
            MailTransport::Smtp(smtp) => Self::Smtp(Box::new(SmtpClient::new(smtp, settings.workers)?)),
        })
    }

    /// Delivers a message. On success, the server has accepted the message, or its file is on disk. The file's name consists
    /// of `id` and `template`.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn deliver(&self, id: MailId, template: Template, message: &Message) -> Result<(), DeliveryError> {
        match self {
            Self::Files(files) => files.write(id, template, &message.formatted()).await,
            Self::Smtp(client) => client.send(message).await,
        }
    }

    /// Deletes the file of a mail, if there is one. Messages that an SMTP server has accepted are out of reach.
    pub async fn delete_file(&self, id: MailId) {
        if let Self::Files(files) = self {
            files.remove(id).await;
        }
    }

    /// Connects to the server, or creates the folder. Returns a sentence that tells the operator where mails go.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn check(&self) -> Result<String, DeliveryError> {
        match self {
            Self::Files(files) => files.check().await,
            Self::Smtp(client) => client.check().await,
        }
    }
}
