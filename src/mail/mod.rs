//! Mail: templates, samples for their check and preview, messages, and the delivery to an SMTP server or to files.

mod files;
mod message;
mod sample;
mod smtp;
mod templates;
mod transport;

pub use self::{
    files::MailFiles,
    message::{Rendered, message},
    sample::sample,
    templates::{TemplateError, Templates},
    transport::{DeliveryError, Transport},
};
