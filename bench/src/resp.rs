//! A minimal Redis client: pipelined commands, answers as text.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, bail};

/// Maximum number of commands without an answer yet. More could fill the buffers of both sockets: each side would then wait
/// until the other reads.
const MAX_UNANSWERED: usize = 500;

/// A connection to Redis.
pub struct Resp {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    /// Encoded commands that are not sent yet.
    unsent: Vec<u8>,
    /// Number of pipelined commands without an answer yet.
    unanswered: usize,
}

impl Resp {
    /// Connects to a Redis on this machine.
    pub fn connect(port: u16) -> anyhow::Result<Self> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_nodelay(true)?;
        let reader = BufReader::with_capacity(64 * 1024, writer.try_clone()?);
        Ok(Self { writer, reader, unsent: Vec::new(), unanswered: 0 })
    }

    /// Sends a command and returns its answer: empty text for null, one line per item for an array. Finishes the pipeline first.
    pub fn call(&mut self, parts: &[&[u8]]) -> anyhow::Result<String> {
        self.finish()?;
        self.encode(parts);
        self.writer.write_all(&self.unsent)?;
        self.unsent.clear();
        self.read()
    }

    /// Adds a command to the pipeline and discards its answer. If the answer is an error, this or a later call fails.
    pub fn pipe(&mut self, parts: &[&[u8]]) -> anyhow::Result<()> {
        self.encode(parts);
        self.unanswered += 1;
        if self.unanswered >= MAX_UNANSWERED { self.finish() } else { Ok(()) }
    }

    /// Sends the pipeline and waits for its answers.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.writer.write_all(&self.unsent)?;
        self.unsent.clear();
        while self.unanswered > 0 {
            self.unanswered -= 1;
            self.read()?;
        }
        Ok(())
    }

    /// Returns the number in the field `name` of `INFO`.
    pub fn info(&mut self, name: &str) -> anyhow::Result<u64> {
        let info = self.call(&[b"INFO"])?;
        for line in info.lines() {
            if let Some((field, value)) = line.split_once(':')
                && field == name
            {
                return value.trim().parse::<u64>().with_context(|| format!("{name} in INFO is not a number"));
            }
        }
        bail!("no {name} in INFO")
    }

    /// Encodes a command as an array of bulk strings (RESP2), to be sent later.
    fn encode(&mut self, parts: &[&[u8]]) {
        self.unsent.extend(format!("*{}\r\n", parts.len()).as_bytes());
        for part in parts {
            self.unsent.extend(format!("${}\r\n", part.len()).as_bytes());
            self.unsent.extend(*part);
            self.unsent.extend(b"\r\n");
        }
    }

    /// Reads one answer (RESP2): its first byte is its type.
    fn read(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let line = line.trim_end();
        match line.as_bytes().first() {
            Some(b'+' | b':') => Ok(line[1..].to_owned()),
            Some(b'-') => bail!("Redis: {}", &line[1..]),
            Some(b'$') => {
                // null has the length -1
                let Ok(length) = usize::try_from(line[1..].parse::<i64>()?) else { return Ok(String::new()) };
                // two bytes more, for the line end
                let mut bytes = vec![0; length + 2];
                self.reader.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
            Some(b'*') => {
                let mut items = Vec::new();
                for _ in 0..line[1..].parse::<i64>()? {
                    items.push(self.read()?);
                }
                Ok(items.join("\n"))
            }
            _ => bail!("Redis answered {line:?}"),
        }
    }
}
