//! Asks for a password: without echo on a terminal, or from standard input.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::domain::secret::SecretText;

/// A password is never longer than this many bytes: 1024 characters of four bytes.
const MOST: u64 = 4096;

/// Reads a new password: all of standard input but one line end after it (`from_stdin`), or what is typed twice on a
/// terminal. It isn't trimmed or changed otherwise.
///
/// # Errors
/// If there is nobody to ask, the two differ, or it isn't UTF-8.
pub fn read_new(from_stdin: bool) -> anyhow::Result<SecretText> {
    let stdin = io::stdin();
    if from_stdin {
        return read_all(stdin.lock());
    }
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask for the password; use --password-stdin");
    }
    let first = ask("Password: ")?;
    if first != ask("The same again: ")? {
        bail!("the two passwords differ");
    }
    Ok(first)
}

fn read_all(input: impl Read) -> anyhow::Result<SecretText> {
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize + 1));
    input.take(MOST + 1).read_to_string(&mut text).context("can't read the password")?;
    if text.len() as u64 > MOST {
        bail!("the password is longer than {MOST} bytes");
    }
    Ok(without_line_end(&text).into())
}

fn ask(prompt: &str) -> anyhow::Result<SecretText> {
    let mut terminal = io::stderr();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let mut line = Zeroizing::new(String::with_capacity(MOST as usize));
    let silence = Silence::start()?;
    let read = io::stdin().lock().take(MOST).read_line(&mut line);
    drop(silence);
    writeln!(terminal)?;
    match read? {
        0 => bail!("no password was given"),
        _ => Ok(without_line_end(&line).into()),
    }
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// While this lives, the terminal doesn't show what is typed.
struct Silence(Termios);

impl Silence {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_end_is_dropped() {
        for (input, password) in [
            ("pass word", "pass word"),
            (" p \n", " p "),
            ("p\r\n", "p"),
            ("p\n\n", "p\n"),
            ("a\nb\n", "a\nb"),
            ("", ""),
        ] {
            assert_eq!(read_all(input.as_bytes()).unwrap().expose(), password);
        }
    }

    #[test]
    fn what_is_no_password_is_refused() {
        assert_eq!(
            read_all("x".repeat(4097).as_bytes()).unwrap_err().to_string(),
            "the password is longer than 4096 bytes"
        );
        assert_eq!(read_all(&b"\xff"[..]).unwrap_err().to_string(), "can't read the password");
    }
}
