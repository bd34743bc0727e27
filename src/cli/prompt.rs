//! Reads passwords (from standard input, or typed without echo) and confirmations. Prompts go to standard error.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::domain::secret::SecretText;

/// Maximum size of a password or an answer in bytes. `password.max_length` is at most 1024 characters, and a character has up to four
/// bytes.
const MAX_BYTES: u64 = 4096;

/// Reads a new password. With `from_stdin`, the password is all of standard input without one trailing line end. Otherwise the user
/// types it twice on the terminal. The password is not trimmed or changed in any other way.
///
/// # Errors
/// If the input is too long or not UTF-8. Without `from_stdin`: if there is no terminal, or the two entries differ.
pub fn read_new_password(from_stdin: bool) -> anyhow::Result<SecretText> {
    let stdin = io::stdin();
    if from_stdin {
        return read_password(stdin.lock());
    }
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask for the password; use --password-stdin");
    }
    let first = ask_password("Password: ")?;
    if first != ask_password("Repeat password: ")? {
        bail!("the passwords differ");
    }
    Ok(first)
}

/// Asks for a confirmation on the terminal. `already_confirmed` is the option `--yes`, with which no prompt appears.
///
/// # Errors
/// If the answer is not "y" or "yes", or there is no terminal to ask on.
pub fn confirm(question: &str, already_confirmed: bool) -> anyhow::Result<()> {
    if already_confirmed {
        return Ok(());
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("not confirmed: {question} Use --yes where there is no terminal");
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().take(MAX_BYTES).read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("not confirmed; nothing was changed"),
    }
}

/// Reads a password from standard input. The buffer has its capacity from the start: a growing buffer would leave copies in memory.
fn read_password(input: impl Read) -> anyhow::Result<SecretText> {
    // One byte more than the maximum, to notice longer input.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize + 1));
    input.take(MAX_BYTES + 1).read_to_string(&mut text).context("can't read the password")?;
    if text.len() as u64 > MAX_BYTES {
        bail!("the password is longer than {MAX_BYTES} bytes");
    }
    Ok(without_line_end(&text).into())
}

/// Asks for a password on the terminal. The terminal limits a line to [`MAX_BYTES`] itself (termios(3), canonical mode).
fn ask_password(prompt: &str) -> anyhow::Result<SecretText> {
    let mut stderr = io::stderr();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    let mut line = Zeroizing::new(String::with_capacity(MAX_BYTES as usize));
    let no_echo = NoEcho::start()?;
    let read = io::stdin().lock().take(MAX_BYTES).read_line(&mut line);
    drop(no_echo);
    writeln!(stderr)?; // the Enter key was not echoed either
    let length = read?;
    if length == 0 {
        bail!("no password was entered"); // end of input; an empty line has a line end
    }
    Ok(without_line_end(&line).into())
}

/// Removes one line end, `\n` or `\r\n`, from the end of the text.
pub(super) fn without_line_end(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// Turns the terminal's echo off. Holds the former settings, and restores them when dropped.
struct NoEcho(Termios);

impl NoEcho {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // `Flush` discards the input that was typed and echoed before.
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // fails only if the terminal was closed
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_from_stdin_is_read_without_one_line_end() {
        for (input, password) in [
            ("pass word", "pass word"),
            (" p \n", " p "),
            ("p\r\n", "p"),
            ("p\n\n", "p\n"),
            ("p\r", "p\r"),
            ("p\r\r\n", "p\r"),
            ("a\nb\n", "a\nb"),
            ("", ""),
        ] {
            assert_eq!(read_password(input.as_bytes()).unwrap().expose(), password);
        }
    }

    #[test]
    fn oversized_or_non_utf8_password_is_refused() {
        let oversized = "x".repeat(MAX_BYTES as usize + 1);
        let error = read_password(oversized.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "the password is longer than 4096 bytes");
        let non_utf8: &[u8] = b"\xff";
        let error = read_password(non_utf8).unwrap_err();
        assert_eq!(error.to_string(), "can't read the password");
    }
}
