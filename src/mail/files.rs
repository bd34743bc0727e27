//! Writes mails as `.eml` files (RFC 5322) in a folder, for trials without a mail server.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{fs, io::AsyncWriteExt};

use super::transport::DeliveryError;
use crate::domain::mail::{MailId, Template};

/// A folder of mails. The name of a file begins with the mail's id, which begins with the time. So files sort by time, and a
/// repeated delivery replaces the file.
#[derive(Debug)]
pub struct MailFiles {
    folder: PathBuf,
}

impl MailFiles {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file of a mail.
    pub fn path(folder: &Path, id: MailId, template: Template) -> PathBuf {
        folder.join(format!("{id}.{template}.eml"))
    }

    pub(super) async fn write(&self, id: MailId, template: Template, message: &[u8]) -> Result<(), DeliveryError> {
        self.try_write(id, template, message).await.map_err(|error| self.unwritable(&error))
    }

    /// Writes to a temporary file first, so that a reader never finds a part of a mail.
    async fn try_write(&self, id: MailId, template: Template, message: &[u8]) -> io::Result<()> {
        self.create_folder().await?;
        let path = Self::path(&self.folder, id, template);
        let temporary = path.with_extension("new"); // in the place of `eml`, by which readers find mails
        // The file is readable by its owner only, because it contains links and codes.
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary).await?;
        file.write_all(message).await?;
        // The mail counts as delivered afterwards, so it must survive a crash of the machine.
        file.sync_all().await?;
        fs::rename(&temporary, &path).await
    }

    async fn create_folder(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).await
    }

    /// Removes a mail, if its file exists.
    pub(super) async fn remove(&self, id: MailId) {
        // The caller does not know the mail's template, so all but one of these files are missing.
        for template in Template::ALL {
            let _ = fs::remove_file(Self::path(&self.folder, id, *template)).await;
        }
    }

    /// Checks that the folder exists or can be created. Returns a sentence for the report of the check.
    pub(super) async fn check(&self) -> Result<String, DeliveryError> {
        self.create_folder().await.map_err(|error| self.unwritable(&error))?;
        Ok(format!("mails are written to {}", self.folder.display()))
    }

    fn unwritable(&self, error: &io::Error) -> DeliveryError {
        DeliveryError::Unreachable(format!("{} can't be written: {error}", self.folder.display()))
    }
}
