//! Reads mails as a recipient's program does: headers, text and HTML.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{test_cluster::TestCluster, wait};

/// A received mail.
#[derive(Clone, Debug, Default)]
pub struct ReceivedMail {
    /// The name of its file; empty if an SMTP server received it.
    pub file: String,
    /// The names and values of the headers in order, unfolded. Encoded words (RFC 2047) are not decoded.
    pub headers: Vec<(String, String)>,
    /// The address of the recipient.
    pub to: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

impl ReceivedMail {
    /// Parses a message with a text and an HTML part.
    pub fn parse(file: &str, message: &str) -> Self {
        let (headers, body) = split_message(message);
        let boundary = header(&headers, "Content-Type").split("boundary=\"").nth(1).unwrap();
        let boundary = boundary.split('"').next().unwrap();
        // A part follows its boundary on a new line. What precedes the first boundary or follows the last one is no part.
        let parts: Vec<_> = body.split(&format!("--{boundary}")).filter_map(|part| part.strip_prefix("\r\n")).collect();
        let [text, html] = parts.as_slice() else { panic!("expected a text and an HTML part: {message}") };
        Self {
            file: file.to_owned(),
            to: header(&headers, "To").to_owned(),
            text: decode_part(text),
            html: decode_part(html),
            headers,
        }
    }

    /// The value of a header; panics unless there is exactly one.
    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    /// Whether there is such a header.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// The first link of the text.
    pub fn link(&self) -> &str {
        self.text.split_whitespace().find(|word| word.contains("://")).unwrap()
    }

    /// The token of the first link.
    pub fn token(&self) -> &str {
        self.link().split("token=").nth(1).unwrap()
    }

    /// The code, which stands alone on an indented line of the text.
    pub fn code(&self) -> &str {
        self.text.lines().find_map(|line| line.strip_prefix("    ")).unwrap().trim()
    }
}

impl TestCluster {
    /// Waits until a mail of this template has been written to this address, and returns the newest. Needs the default transport of
    /// tests, which writes mails to files.
    pub async fn mail_to(&self, address: &str, template: &str) -> ReceivedMail {
        let folder = self.folder().join("mail");
        let find_newest = || mails_of_template(&folder, template).into_iter().rev().find(|mail| mail.to == address);
        wait::until(&format!("{address} has a mail {template}"), || async { find_newest().is_some() }).await;
        find_newest().unwrap()
    }

    /// All mails to this address, oldest first. Needs the transport that writes mails to files.
    pub fn mails_to(&self, address: &str) -> Vec<ReceivedMail> {
        let all = mails_in_files(&self.folder().join("mail"), ".eml");
        all.into_iter().filter(|mail| mail.to == address).collect()
    }
}

/// The mails of this template in a folder, oldest first.
pub fn mails_of_template(folder: &Path, template: &str) -> Vec<ReceivedMail> {
    mails_in_files(folder, &format!(".{template}.eml"))
}

/// The mails in a folder whose file names end with `suffix`, oldest first.
fn mails_in_files(folder: &Path, suffix: &str) -> Vec<ReceivedMail> {
    // the first mail creates the folder
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.unwrap();
        files.push((entry.metadata().unwrap().modified().unwrap(), entry.file_name().into_string().unwrap()));
    }
    // sorts by modification time: names begin with the time of the node's clock, which tests may stop
    files.sort();
    let names = files.into_iter().map(|(_, name)| name).filter(|name| name.ends_with(suffix));
    names.map(|name| ReceivedMail::parse(&name, &fs::read_to_string(folder.join(&name)).unwrap())).collect()
}

/// Splits a message, or a part of it, into its unfolded headers and its body.
fn split_message(message: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let parse_header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
        (name.to_owned(), value.trim().to_owned())
    };
    (unfolded.split("\r\n").map(parse_header).collect(), body)
}

/// The value of a header; panics unless there is exactly one.
fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (Some((_, value)), None) => value,
        other => panic!("expected one header {name}, found {other:?} in {headers:?}"),
    }
}

/// The content of a part, decoded from its transfer encoding.
fn decode_part(part: &str) -> String {
    let (headers, body) = split_message(part);
    let text = match header(&headers, "Content-Transfer-Encoding") {
        "quoted-printable" => decode_quoted_printable(body),
        "base64" => STANDARD.decode(body.replace("\r\n", "")).unwrap(),
        "7bit" => body.as_bytes().to_vec(),
        other => panic!("unexpected transfer encoding {other}"),
    };
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

/// Decodes quoted-printable text (RFC 2045, section 6.7), in which `=` begins a byte in hexadecimal digits or joins two lines.
fn decode_quoted_printable(body: &str) -> Vec<u8> {
    let joined = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'=' && after.len() >= 2 {
            let digits = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}
