//! Settings of mail: the server, the sender, links, delivery and notices.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use url::{Host, Url};

use super::{check, read::Reader, secret_file::is_open_to_others};
use crate::domain::{
    account::Email,
    locale::Locale,
    mail::{Recipient, Template},
    secret::SecretText,
    text::is_deceptive,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The text in a link that the token of a mail replaces.
const PLACEHOLDER: &str = "{token}";

/// Settings of mail.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// The means of delivery.
    pub transport: MailTransport,
    /// The sender.
    pub from: Sender,
    /// The address for replies. `None`: no `Reply-To`.
    pub reply_to: Option<Sender>,
    /// The name of the product in subjects and texts.
    pub product_name: String,
    /// A folder with templates that replace the built-in ones.
    pub templates: Option<PathBuf>,
    /// The language of recipients whose language is unknown.
    pub default_locale: Locale,
    /// Notices that are not sent.
    pub notices_off: Vec<Template>,
    /// The value of `List-Unsubscribe` in notices (RFC 2369). `None`: no header.
    pub list_unsubscribe: Option<String>,
    /// Maximum number of mails that a node sends at the same time.
    pub workers: usize,
    /// Delay before the second attempt. Each further attempt doubles the delay.
    pub retry_first: Duration,
    /// Longest delay between attempts.
    pub retry_max: Duration,
    /// A mail is given up at the latest this long after it was queued.
    pub give_up_after: Duration,
    /// Maximum number of mails that wait.
    pub max_queued: u64,
    /// How long the outbox keeps the rows of mails that were sent or given up, and how long files of mails are kept.
    pub retention: Duration,
    /// The links in mails.
    pub links: MailLinks,
}

/// The means of delivery.
#[derive(Clone, Debug)]
pub enum MailTransport {
    /// Each mail becomes a `.eml` file in this folder.
    Files(PathBuf),
    /// Mails are sent to an SMTP server.
    Smtp(SmtpSettings),
}

/// The SMTP server.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// The host name, for which the server's certificate must be valid, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The use of TLS.
    pub security: SmtpSecurity,
    /// The user name and password. `None`: no authentication.
    pub credentials: Option<SmtpCredentials>,
    /// A PEM file of the authorities that may sign the server's certificate. `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// The name that the node states in `EHLO`.
    pub ehlo_name: String,
    /// Time to hand a mail to the server, connecting included.
    pub timeout: Duration,
}

/// The use of TLS on a connection to the SMTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// TLS from the first byte (RFC 8314, section 3.3).
    Tls,
    /// `STARTTLS` (RFC 3207). Nothing is sent to a server that doesn't offer it.
    StartTls,
    /// Clear text.
    None,
}

/// The user name and password for the SMTP server.
#[derive(Clone, Debug)]
pub struct SmtpCredentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: SecretText,
}

/// A sender: an address, perhaps with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The name, without control characters.
    pub name: Option<String>,
    /// The address.
    pub address: Recipient,
}

/// The links in mails: URLs with `{token}`.
#[derive(Clone, Debug)]
pub struct MailLinks {
    /// Verifies an address.
    pub verify_address: LinkTemplate,
    /// Sets a new password.
    pub reset_password: LinkTemplate,
    /// Confirms a new address.
    pub confirm_address: LinkTemplate,
    /// Undoes a change of address.
    pub undo_address: LinkTemplate,
    /// Signs in.
    pub sign_in_code: LinkTemplate,
    /// Sets the first password of an invited account.
    pub invitation: LinkTemplate,
    /// Ends all sessions and starts a password reset: "this wasn't me".
    pub not_me: LinkTemplate,
    /// The page for signing in. It has no token.
    pub sign_in: String,
}

/// A URL with one `{token}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTemplate(String);

impl LinkTemplate {
    /// Checks an http or https URL with exactly one `{token}`.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rule = || {
            format!(
                "must be an http or https URL with {PLACEHOLDER} in it, such as https://app.example.com/reset#token={PLACEHOLDER}"
            )
        };
        let is_url = Url::parse(&text.replace(PLACEHOLDER, "x"))
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let is_plain =
            text.matches(PLACEHOLDER).count() == 1 && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if is_url && is_plain { Ok(Self(text.to_owned())) } else { Err(rule()) }
    }

    /// The link with this token, which must need no escaping in URLs.
    pub fn with_token(&self, token: &SecretText) -> SecretText {
        self.0.replace(PLACEHOLDER, token.expose()).into()
    }
}

/// The parsed settings of mail, and the file of the SMTP server's password, which is not read yet.
pub(super) struct ParsedMail {
    pub(super) settings: MailSettings,
    /// The file. [`read_password`] reads it.
    pub(super) password_file: Option<PathBuf>,
}

/// Reads the settings of mail. The defaults of the links, the sender and the name in `EHLO` derive from `issuer`.
pub(super) fn mail(read: &mut Reader<'_>, working_dir: &Path, data_dir: &Path, issuer: &str) -> ParsedMail {
    let host = Url::parse(issuer).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    let issuer_name = match &host {
        Some(Host::Domain(name)) => name.clone(),
        _ => "localhost".to_owned(),
    };
    let product_name = read.one("mail.product_name", |text| {
        let has_valid_length = (1..=64).contains(&text.chars().count());
        if !has_valid_length || text.contains(is_deceptive) || text.trim() != text {
            let rule =
                "must be 1 to 64 characters, without control or invisible characters and without spaces at the ends";
            return Err(rule.into());
        }
        Ok(text.to_owned())
    });
    // Only checked here: `smtp` parses the URL again.
    let url = read.optional("mail.url", |text| parse_smtp_url(text).map(drop));
    let from = read.one("mail.from", parse_sender);
    // Without a server, mails become files, and the fallback sender will do.
    let has_needed_from = url.is_none() || read.is_given("mail.from");
    read.rule(&["mail.from", "mail.url"], has_needed_from, |read| {
        format!(
            "must be set to the sender, such as \"Example <no-reply@example.com>\", because of {}",
            read.mention("mail.url")
        )
    });
    let from = from.unwrap_or_else(|| fallback_sender(&product_name, &issuer_name));
    let (password_file, smtp) = smtp(read, working_dir, url.as_ref(), &issuer_name);
    let transport = smtp.map_or_else(|| MailTransport::Files(data_dir.join("mail")), MailTransport::Smtp);
    let settings = MailSettings {
        transport,
        from,
        reply_to: read.one("mail.reply_to", parse_sender),
        product_name,
        templates: read.optional("mail.templates", |_| Ok(())).map(|path| working_dir.join(path.expose())),
        default_locale: read.one("mail.default_locale", |text| text.parse().map_err(|rule| format!("{rule}"))),
        notices_off: read.many("mail.notices_off", parse_notice),
        list_unsubscribe: read.one("mail.list_unsubscribe", check_unsubscribe),
        workers: read.number("mail.workers", 1..=64),
        retry_first: read.duration("mail.retry_first", SECOND, HOUR),
        retry_max: read.duration("mail.retry_max", SECOND, DAY),
        give_up_after: read.duration("mail.give_up_after", MINUTE, 30 * DAY),
        max_queued: read.number("mail.max_queued", 100..=100_000_000),
        retention: read.duration("mail.retention", HOUR, 3650 * DAY),
        links: links(read, issuer),
    };
    read.rule(&["mail.retry_first", "mail.retry_max"], settings.retry_first <= settings.retry_max, |read| {
        format!("must not be longer than {}", read.mention("mail.retry_max"))
    });
    ParsedMail { settings, password_file }
}

/// Reads the settings of the SMTP server, and checks them even if `url` (`mail.url`) is not set. Returns the password's file, for
/// [`read_password`], and the settings.
fn smtp(
    read: &mut Reader<'_>,
    working_dir: &Path,
    url: Option<&SecretText>,
    issuer_name: &str,
) -> (Option<PathBuf>, Option<SmtpSettings>) {
    let username = read.one("mail.username", |text| Ok(text.to_owned()));
    let password = read.optional("mail.password", |_| Ok(()));
    let password_file = read.optional("mail.password_file", |_| Ok(()));
    let tls_ca = read.optional("mail.tls_ca", |_| Ok(())).map(|path| working_dir.join(path.expose()));
    let ehlo_name = read.one("mail.ehlo_name", |text| match text {
        "" => Ok(None),
        text => match Host::parse(text) {
            Ok(_) if text.is_ascii() => Ok(Some(text.to_owned())),
            _ => Err("must be the name of this machine in the DNS, such as mail.example.com".into()),
        },
    });
    let timeout = read.duration("mail.timeout", SECOND, 10 * MINUTE);
    read.rule(&["mail.password", "mail.password_file"], password.is_none() || password_file.is_none(), |read| {
        format!("must not be set together with {}", read.mention("mail.password_file"))
    });
    let server = url.and_then(|url| parse_smtp_url(url.expose()).ok());
    let has_user_in_url = server.as_ref().is_some_and(|server| server.credentials.is_some());
    let has_username = !username.is_empty();
    read.rule(&["mail.username", "mail.url"], !(has_user_in_url && has_username), |_| {
        "must not be set together with a user in mail.url".to_owned()
    });
    let has_password = password.is_some() || password_file.is_some();
    read.rule(&["mail.username", "mail.password", "mail.password_file"], has_username == has_password, |_| {
        "must be set together with mail.password or mail.password_file".to_owned()
    });
    let Some(server) = server else { return (None, None) };
    let sends_clear_text = server.security == SmtpSecurity::None && !check::is_loopback_host(&server.host);
    read.warn(&["mail.url"], sends_clear_text, || {
        "mail.url connects to another machine without TLS: anyone on the network path can read the links and codes of \
         mails"
            .to_owned()
    });
    // Without `mail.password`, the password is empty until `read_password` sets it.
    let separate_credentials =
        has_username.then(|| SmtpCredentials { username, password: password.unwrap_or_else(|| String::new().into()) });
    let settings = SmtpSettings {
        host: server.host,
        port: server.port,
        security: server.security,
        credentials: server.credentials.or(separate_credentials),
        tls_ca,
        ehlo_name: ehlo_name.unwrap_or_else(|| issuer_name.to_owned()),
        timeout,
    };
    (password_file.map(|path| working_dir.join(path.expose())), Some(settings))
}

/// Reads the password of the SMTP server from the first line of its file into the settings. Returns whether others have access to the file.
pub(super) fn read_password(path: &Path, settings: &mut MailSettings) -> Result<bool, String> {
    let unreadable = |error| format!("{} can't be read: {error}", path.display());
    let is_open_to_others = is_open_to_others(&fs::metadata(path).map_err(unreadable)?);
    let text = fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(unreadable)?;
    let password = text.lines().next().unwrap_or_default().trim();
    if password.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    if let MailTransport::Smtp(SmtpSettings { credentials: Some(credentials), .. }) = &mut settings.transport {
        credentials.password = password.into();
    }
    Ok(is_open_to_others)
}

/// The parts of `mail.url`.
struct Server {
    host: String,
    port: u16,
    security: SmtpSecurity,
    credentials: Option<SmtpCredentials>,
}

/// Parses `smtps://[user:password@]host[:port]` or `smtp://[user:password@]host[:port][?tls=none]`.
fn parse_smtp_url(text: &str) -> Result<Server, String> {
    let rule = || {
        "must be smtps://[user:password@]host[:port] for TLS, smtp://… for STARTTLS, or smtp://…?tls=none for clear text"
            .to_owned()
    };
    let url = Url::parse(text).map_err(|_| rule())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(rule)?;
    let parameters: Vec<_> = url.query_pairs().collect();
    let security = match (url.scheme(), parameters.as_slice()) {
        ("smtps", []) => SmtpSecurity::Tls,
        ("smtp", []) => SmtpSecurity::StartTls,
        ("smtp", [(name, value)]) if name == "tls" && value == "none" => SmtpSecurity::None,
        _ => return Err(rule()),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(rule());
    }
    let decode = |text: &str| {
        let bytes = percent_decode(text).ok_or_else(rule)?;
        String::from_utf8(bytes).map_err(|_| rule())
    };
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) | (_, None) => return Err("must name the user and the password, or neither".into()),
        (username, Some(password)) => {
            Some(SmtpCredentials { username: decode(username)?, password: decode(password)?.into() })
        }
    };
    let default_port = if security == SmtpSecurity::Tls { 465 } else { 587 };
    // A URL has an IPv6 address in brackets, `SmtpSettings` without.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Server { host, port: url.port().unwrap_or(default_port), security, credentials })
}

/// Decodes `%XX`. `None` if a `%` is not followed by two hexadecimal digits.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            // not by `from_str_radix`, which also accepts a sign
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

/// Parses `no-reply@example.com` or `Example <no-reply@example.com>`. `None` if the text is empty.
fn parse_sender(text: &str) -> Result<Option<Sender>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let rule = || "must be an address, such as no-reply@example.com or \"Example <no-reply@example.com>\"".to_owned();
    let (name, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((name, address)) => (Some(name.trim().trim_matches('"')), address),
        None => (None, text),
    };
    let address = Email::parse(address.trim()).ok().and_then(|email| Recipient::new(&email).ok()).ok_or_else(rule)?;
    let name = name.filter(|name| !name.is_empty());
    if name.is_some_and(|name| name.contains(is_deceptive) || name.contains(['<', '>', '"']) || name.len() > 128) {
        return Err(rule());
    }
    Ok(Some(Sender { name: name.map(str::to_owned), address }))
}

/// The sender if none is configured: only for mails that become files.
fn fallback_sender(product_name: &str, issuer_name: &str) -> Sender {
    let no_reply_at = |domain: &str| Recipient::new(&Email::from_stored(format!("no-reply@{domain}"))).ok();
    let address = no_reply_at(issuer_name).or_else(|| no_reply_at("localhost"));
    let address = address.unwrap_or_else(|| unreachable!("no-reply@localhost is an address"));
    Sender { name: Some(product_name.to_owned()), address }
}

/// Parses the name of a notice, for `mail.notices_off`.
fn parse_notice(text: &str) -> Result<Template, String> {
    let found = text.parse().ok().filter(|template: &Template| template.is_notice());
    found.ok_or_else(|| {
        let notices = Template::ALL.iter().filter(|template| template.is_notice());
        let names: Vec<_> = notices.map(|template| template.as_str()).collect();
        format!("must hold names of notices: {}", names.join(", "))
    })
}

/// Checks a `https:` or `mailto:` URL for `List-Unsubscribe`. `None` if the text is empty.
fn check_unsubscribe(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_url = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "https" | "mailto"));
    // The header writes URLs in angle brackets, separated by commas.
    let is_plain = text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ','));
    if is_url && is_plain { Ok(Some(text.to_owned())) } else { Err("must be a https: or mailto: URL".into()) }
}

/// Reads the links in mails. A link that is not set leads to Latchkey's own pages, below the issuer.
fn links(read: &mut Reader<'_>, issuer: &str) -> MailLinks {
    let mut link = |key: &'static str, page: &str| {
        read.one(key, |text| match text {
            "" => Ok(LinkTemplate(format!("{issuer}/account/{page}#token={PLACEHOLDER}"))),
            text => LinkTemplate::parse(text),
        })
    };
    MailLinks {
        verify_address: link("mail.links.verify_address", "verify-address"),
        reset_password: link("mail.links.reset_password", "reset-password"),
        confirm_address: link("mail.links.confirm_address", "confirm-address"),
        undo_address: link("mail.links.undo_address", "undo-address"),
        sign_in_code: link("mail.links.sign_in_code", "sign-in-code"),
        invitation: link("mail.links.invitation", "invitation"),
        not_me: link("mail.links.not_me", "not-me"),
        sign_in: read.one("mail.links.sign_in", |text| match text {
            "" => Ok(format!("{issuer}/account/sign-in")),
            text => match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && !text.contains(char::is_whitespace) => {
                    Ok(text.to_owned())
                }
                _ => Err("must be an http or https URL".into()),
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;

    #[test]
    fn reference_of_notices_off_lists_every_notice() {
        let reference = schema::markdown();
        let row = reference.lines().find(|line| line.contains("`mail.notices_off`")).unwrap();
        let words: Vec<_> = row.split(|c: char| !c.is_ascii_lowercase() && c != '_').collect();
        for notice in Template::ALL.iter().filter(|template| template.is_notice()) {
            assert!(words.contains(&notice.as_str()), "{notice} is missing: {row}");
        }
    }

    #[test]
    fn smtp_url_sets_server_security_and_user() {
        let parsed = parse_smtp_url("smtps://ann%40x:p%3Aw@mail.example.com").unwrap();
        assert_eq!(parsed.host, "mail.example.com");
        assert_eq!((parsed.port, parsed.security), (465, SmtpSecurity::Tls));
        let credentials = parsed.credentials.unwrap();
        assert_eq!(credentials.username, "ann@x");
        assert_eq!(credentials.password.expose(), "p:w");
        let parsed = parse_smtp_url("smtp://mail.example.com").unwrap();
        assert_eq!((parsed.port, parsed.security), (587, SmtpSecurity::StartTls));
        let parsed = parse_smtp_url("smtp://[::1]:25?tls=none").unwrap();
        assert_eq!(parsed.host, "::1");
        assert_eq!((parsed.port, parsed.security), (25, SmtpSecurity::None));
    }

    #[test]
    fn smtp_url_of_another_form_is_refused() {
        for bad in [
            "",
            "mail.example.com",
            "http://mail.example.com",
            "smtp://",
            "smtp://host?tls=opportunistic",
            "smtps://host?tls=none",
            "smtp://host/path",
            "smtp://user@host",
            "smtp://host?x=1",
            "smtp://user:p%+f@host",
            "smtp://user:p%f@host",
        ] {
            assert!(parse_smtp_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sender_must_be_one_address_perhaps_with_a_name() {
        let sender = parse_sender("Example Ltd. <no-reply@bücher.example>").unwrap().unwrap();
        assert_eq!(sender.name.as_deref(), Some("Example Ltd."));
        assert_eq!(sender.address.as_str(), "no-reply@xn--bcher-kva.example");
        for bad in
            ["x", "a\r\nBcc: x@y.example <a@b.example>", "A <a@b.example>, B <c@d.example>", "<>", "a b@c.example"]
        {
            assert!(parse_sender(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn link_without_exactly_one_token_is_refused() {
        let link = LinkTemplate::parse("https://app.example.com/reset?t={token}").unwrap();
        assert_eq!(link.with_token(&"abc".into()).expose(), "https://app.example.com/reset?t=abc");
        for bad in
            ["https://app.example.com/", "https://a.example/{token}{token}", "ftp://a.example/{token}", "{token}"]
        {
            assert!(LinkTemplate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_notices_can_be_switched_off() {
        assert_eq!(parse_notice("new_device"), Ok(Template::NewDevice));
        assert!(parse_notice("password_reset").unwrap_err().contains("new_device, "));
    }
}
