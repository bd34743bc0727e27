//! Mails as messages (RFC 5322) with a text and an HTML part.

use std::time::{Duration, UNIX_EPOCH};

use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
};

use crate::{
    config::{MailSettings, Sender},
    domain::{
        clock::Timestamp,
        mail::{MailId, Recipient, Template},
    },
};

/// A rendered template.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject, on one line.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

/// Declares a header with a fixed name. lettre's trait requires `parse`, which nothing here calls.
macro_rules! header {
    ($type:ident, $name:literal) => {
        #[derive(Clone)]
        struct $type(String);

        impl Header for $type {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($name)
            }

            fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok(Self(text.to_owned()))
            }

            fn display(&self) -> HeaderValue {
                HeaderValue::new(Self::name(), self.0.clone())
            }
        }
    };
}

// Asks vacation responders not to reply (RFC 3834, section 5).
header!(AutoSubmitted, "Auto-Submitted");
// Asks Microsoft Exchange not to send automatic replies.
header!(AutoResponseSuppress, "X-Auto-Response-Suppress");
// Names the address at which recipients switch notices off (RFC 2369, section 3.2).
header!(ListUnsubscribe, "List-Unsubscribe");

/// Builds the message of a mail. Every attempt to deliver a mail has the same `Message-ID` and `Date`, so that a receiver can
/// recognize a mail that arrives twice.
///
/// # Errors
/// If lettre refuses an address. [`Recipient`] validates addresses, so this does not happen in practice.
pub fn message(
    settings: &MailSettings,
    id: MailId,
    created_at: Timestamp,
    template: Template,
    to: &Recipient,
    rendered: &Rendered,
) -> Result<Message, String> {
    let from = mailbox(&settings.from)?;
    let to = address(to)?;
    let envelope = Envelope::new(Some(from.email.clone()), vec![to.clone()]).map_err(|error| error.to_string())?;
    let since_unix_epoch = Duration::from_millis(created_at.as_millis().max(0).unsigned_abs());
    let mut builder = Message::builder()
        .envelope(envelope)
        .from(from)
        .to(Mailbox::new(None, to))
        .subject(one_line(&rendered.subject))
        .date(UNIX_EPOCH + since_unix_epoch)
        .message_id(Some(format!("<{id}@{}>", settings.from.address.domain())))
        .header(AutoSubmitted("auto-generated".to_owned()))
        .header(AutoResponseSuppress("All".to_owned()));
    if let Some(reply_to) = &settings.reply_to {
        builder = builder.reply_to(mailbox(reply_to)?);
    }
    if let Some(url) = &settings.list_unsubscribe
        && template.is_notice()
    {
        builder = builder.header(ListUnsubscribe(format!("<{url}>")));
    }
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(rendered.text.clone());
    let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(rendered.html.clone());
    builder.multipart(MultiPart::alternative().singlepart(text).singlepart(html)).map_err(|error| error.to_string())
}

fn mailbox(sender: &Sender) -> Result<Mailbox, String> {
    Ok(Mailbox::new(sender.name.as_deref().map(one_line), address(&sender.address)?))
}

fn address(recipient: &Recipient) -> Result<Address, String> {
    Address::new(recipient.local_part(), recipient.domain()).map_err(|error| error.to_string())
}

/// Replaces each run of control characters and line breaks with a space.
fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.split(is_break).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Sources, load},
        domain::{account::Email, entropy::Entropy},
    };

    #[test]
    fn line_breaks_in_subject_become_spaces() {
        let folder = tempfile::tempdir().unwrap();
        let settings = load(&Sources::in_dir(folder.path()), &Entropy::system()).unwrap().mail;
        let to = Recipient::new(&Email::parse("ann@example.com").unwrap()).unwrap();
        // Copied unchanged, the subject would add a header, the start of the body, and a line break of Unicode.
        let rendered = Rendered {
            subject: "Hello\r\nBcc: eve@evil.example\n\nbody\u{2028}x".to_owned(),
            text: "t".to_owned(),
            html: "h".to_owned(),
        };
        let id = MailId(Entropy::system().uuid());
        let message = message(&settings, id, Timestamp::from_millis(0), Template::Test, &to, &rendered).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        assert!(text.contains("\r\nSubject: Hello Bcc: eve@evil.example body x\r\n"), "{text}");
        assert!(!text.contains("\nBcc:"), "{text}");
        assert_eq!(message.envelope().to().len(), 1, "the subject added a recipient");
    }
}
