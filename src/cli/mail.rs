//! `latchkey mail`: manages the outbox, and previews templates of mails.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum, value_parser};
use serde::Serialize;

use super::{
    Global, block_on,
    bootstrap::open_existing_database,
    output::{escape, write_json_line},
};
use crate::{
    config::{Config, MailTransport, load_mail_settings},
    domain::{
        account::Email,
        clock::Clock,
        locale::Locale,
        mail::{Mail, MailId, Recipient, Template},
    },
    mail::{MailFiles, Templates, sample},
    store::sql::{OutboxRow, OutboxState},
};

/// Subcommands of `latchkey mail`.
#[derive(Clone, Debug, Subcommand)]
pub enum MailCommand {
    /// List waiting, sent and failed mails, newest first
    List(ListArgs),
    /// Show a mail: its attempts, its error, its file
    Show(ShowArgs),
    /// Send waiting and rejected mails now, unless they have expired
    Retry(RetryArgs),
    /// Render a template with sample data
    Preview(PreviewArgs),
}

/// Arguments of `latchkey mail list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only mails in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<State>,
    /// Print at most this many mails: the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// The state of a mail, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum State {
    /// Waiting for its next attempt, or being sent.
    Waiting,
    /// Accepted by the server, or written to a file.
    Sent,
    /// Rejected by the server, or expired.
    Failed,
}

/// Arguments of `latchkey mail show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Id of the mail, as `latchkey mail list` prints it
    #[arg(value_name = "ID")]
    pub id: MailId,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `latchkey mail retry`.
#[derive(Args, Clone, Debug)]
pub struct RetryArgs {
    /// Id of the mail, as `latchkey mail list` prints it
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub id: Option<MailId>,
    /// Retry all waiting and rejected mails
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
}

/// Arguments of `latchkey mail preview`.
#[derive(Args, Clone, Debug)]
pub struct PreviewArgs {
    /// Name of the template: password_reset, new_device, …
    #[arg(value_name = "TEMPLATE", value_parser = parse_template)]
    pub template: Template,
    /// Language: en, de, fr, es or pt
    #[arg(long, value_name = "LOCALE", default_value = "en")]
    pub locale: Locale,
    /// Print the subject and the text part instead of the HTML
    #[arg(long)]
    pub text: bool,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,
}

fn parse_template(text: &str) -> Result<Template, String> {
    text.parse().map_err(|_| {
        let names: Vec<_> = Template::ALL.iter().map(|template| template.as_str()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// Runs a subcommand of `latchkey mail`.
///
/// # Errors
/// If there is no such mail, a template can't be used, or the database can't be reached.
pub fn run(command: &MailCommand, global: &Global) -> anyhow::Result<()> {
    match command {
        MailCommand::List(args) => list(args, &global.load_existing_config()?),
        MailCommand::Show(args) => show(args, &global.load_existing_config()?),
        MailCommand::Retry(args) => retry(args, &global.load_existing_config()?),
        MailCommand::Preview(args) => preview(args, global),
    }
}

fn list(args: &ListArgs, config: &Config) -> anyhow::Result<()> {
    let state = args.state.map(|state| match state {
        State::Waiting => OutboxState::Waiting,
        State::Sent => OutboxState::Sent,
        State::Failed => OutboxState::Failed,
    });
    let rows = block_on(async {
        let sql = open_existing_database(config).await?;
        let rows = sql.mails(state, args.limit).await?;
        sql.close().await;
        Ok(rows)
    })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if !args.json {
        writeln!(out, "{}", table_line(["ID", "CREATED", "STATE", "TRIES", "TEMPLATE", "TO", "FILE OR ERROR"]))?;
    }
    for row in &rows {
        if args.json {
            write_json_line(&mut out, &MailJson::of(row, config))?;
            continue;
        }
        let file_or_error = existing_file(row, config).or_else(|| row.error.clone()).unwrap_or_default();
        writeln!(
            out,
            "{}",
            table_line([
                &row.id.to_string(),
                &row.created_at.to_string(),
                row.state.as_str(),
                &row.attempts.to_string(),
                row.template.as_str(),
                &escape(&row.recipient),
                &escape(&file_or_error),
            ])
        )?;
    }
    Ok(out.flush()?)
}

fn table_line([id, created, state, tries, template, to, file_or_error]: [&str; 7]) -> String {
    // The last column is empty for a mail with neither a file nor an error.
    let line = format!("{id:<36}  {created:<24}  {state:<7}  {tries:>5}  {template:<18}  {to:<28}  {file_or_error}");
    line.trim_end().to_owned()
}

fn show(args: &ShowArgs, config: &Config) -> anyhow::Result<()> {
    let row = block_on(async {
        let sql = open_existing_database(config).await?;
        let row = sql.mail(args.id).await?;
        sql.close().await;
        Ok(row)
    })?;
    let Some(row) = row else { bail!("{}: there is no such mail; it may have been deleted (mail.retention)", args.id) };
    let mail = MailJson::of(&row, config);
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json_line(&mut out, &mail)?);
    }
    // The rows with `None` are left out.
    let rows = [
        ("Id", Some(mail.id)),
        ("Template", Some(mail.template.to_owned())),
        ("To", Some(mail.to.to_owned())),
        ("Language", Some(mail.locale.to_owned())),
        ("State", Some(mail.state.to_owned())),
        ("Attempts", Some(mail.attempts.to_string())),
        ("Created", Some(mail.created_at)),
        ("Expires", Some(mail.expires_at)),
        ("Account", mail.account_id),
        ("Next attempt", mail.next_attempt_at),
        ("Done", mail.done_at),
        ("Error", mail.error.map(str::to_owned)),
        ("File", mail.file),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            writeln!(out, "{name:<13} {}", escape(&value))?;
        }
    }
    Ok(out.flush()?)
}

fn retry(args: &RetryArgs, config: &Config) -> anyhow::Result<()> {
    let count = block_on(async {
        let sql = open_existing_database(config).await?;
        let count = sql.retry_mails(args.id, Clock::System.now()).await?;
        sql.close().await;
        Ok(count)
    })?;
    match (args.id, count) {
        (Some(id), 0) => {
            bail!("{id}: there is no such mail, it was sent, it has expired, or a node is sending it")
        }
        (Some(id), _) => println!("The mail {id} is due now. A running node sends it."),
        (None, 1) => println!("1 mail is due now. A running node sends it."),
        (None, count) => println!("{count} mails are due now. Running nodes send them."),
    }
    Ok(())
}

fn preview(args: &PreviewArgs, global: &Global) -> anyhow::Result<()> {
    // A preview needs neither a secret nor a database.
    let (settings, issuer) = load_mail_settings(&global.sources()?)?;
    let templates = Templates::load(&settings, &issuer)?;
    let to = Email::parse("ann@example.com").ok().and_then(|email| Recipient::new(&email).ok());
    let to = to.context("the sample address is invalid")?;
    let mail = Mail { to, locale: args.locale, time_zone: None, account: None, data: sample(args.template) };
    let rendered = templates.render(&mail)?;
    let printed =
        if args.text { format!("Subject: {}\n\n{}", rendered.subject, rendered.text) } else { rendered.html + "\n" };
    match &args.output {
        Some(path) => fs::write(path, printed).with_context(|| format!("{} can't be written", path.display())),
        None => Ok(io::stdout().lock().write_all(printed.as_bytes())?),
    }
}

/// The file of a sent mail, if mails are delivered to files and the file still exists.
fn existing_file(row: &OutboxRow, config: &Config) -> Option<String> {
    let MailTransport::Files(folder) = &config.mail.transport else { return None };
    let path = MailFiles::path(folder, row.id, row.template);
    path.exists().then(|| path.display().to_string())
}

/// A mail of the outbox, as `--json` prints it.
#[derive(Serialize)]
struct MailJson<'a> {
    id: String,
    template: &'static str,
    to: &'a str,
    locale: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    state: &'static str,
    attempts: u32,
    created_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl<'a> MailJson<'a> {
    fn of(row: &'a OutboxRow, config: &Config) -> Self {
        Self {
            id: row.id.to_string(),
            template: row.template.as_str(),
            to: &row.recipient,
            locale: row.locale.as_str(),
            account_id: row.account.map(|id| id.to_string()),
            state: row.state.as_str(),
            attempts: row.attempts,
            created_at: row.created_at.to_string(),
            expires_at: row.expires_at.to_string(),
            // `due_at` always has a value, but only a waiting mail has a next attempt.
            next_attempt_at: (row.state == OutboxState::Waiting).then(|| row.due_at.to_string()),
            done_at: row.done_at.map(|at| at.to_string()),
            error: row.error.as_deref(),
            file: existing_file(row, config),
        }
    }
}
