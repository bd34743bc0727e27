//! A minimal Redis client: pipelined commands, answers as text.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::bail;

/// Maximum number of commands without an answer yet. More could fill the buffers of both sockets: each side would then wait
/// until the other reads.
const MAX_UNANSWERED: usize = 500;

/// A connection to Redis.
pub struct Resp {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    /// Commands that are not sent yet.
    out: Vec<u8>,
    /// Number of pipelined commands without an answer yet.
    unanswered: usize,
}

impl Resp {
    /// Connects to a Redis on this machine.
    pub fn connect(port: u16) -> anyhow::Result<Self> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_nodelay(true)?;
        let reader = BufReader::with_capacity(64 * 1024, writer.try_clone()?);
        Ok(Self { writer, reader, out: Vec::new(), unanswered: 0 })
    }

    /// Sends a command and returns its answer: empty text for null, one line per item for an array. Finishes the pipeline first.
    pub fn call(&mut self, parts: &[&[u8]]) -> anyhow::Result<String> {
        self.finish()?;
        self.write(parts);
        self.writer.write_all(&self.out)?;
        self.out.clear();
        self.read()
    }

    /// Adds a command to the pipeline, whose answers are discarded. An error answer fails this or a later call.
    pub fn pipe(&mut self, parts: &[&[u8]]) -> anyhow::Result<()> {
        self.write(parts);
        self.unanswered += 1;
        if self.unanswered >= MAX_UNANSWERED { self.finish() } else { Ok(()) }
    }

    /// Sends the pipeline and waits for its answers.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.writer.write_all(&self.out)?;
        self.out.clear();
        while self.unanswered > 0 {
            self.unanswered -= 1;
            self.read()?;
        }
        Ok(())
    }

    /// Returns the number in the field `name` of `INFO`.
    pub fn info(&mut self, name: &str) -> anyhow::Result<u64> {
        let info = self.call(&[b"INFO"])?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        match value.and_then(|value| value.trim().parse().ok()) {
            Some(number) => Ok(number),
            None => bail!("no {name} in INFO"),
        }
    }

    fn write(&mut self, parts: &[&[u8]]) {
        self.out.extend(format!("*{}\r\n", parts.len()).as_bytes());
        for part in parts {
            self.out.extend(format!("${}\r\n", part.len()).as_bytes());
            self.out.extend(*part);
            self.out.extend(b"\r\n");
        }
    }

    fn read(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let line = line.trim_end();
        let number = || line[1..].parse::<i64>();
        match line.as_bytes().first() {
            Some(b'+' | b':') => Ok(line[1..].to_owned()),
            Some(b'-') => bail!("Redis: {}", &line[1..]),
            Some(b'$') => {
                // null has the length -1
                let Ok(length) = usize::try_from(number()?) else { return Ok(String::new()) };
                let mut bytes = vec![0; length + 2];
                self.reader.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
            Some(b'*') => {
                let mut items = Vec::new();
                for _ in 0..number()? {
                    items.push(self.read()?);
                }
                Ok(items.join("\n"))
            }
            _ => bail!("Redis answered {line:?}"),
        }
    }
}
