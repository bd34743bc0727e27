//! An HTTP/1.1 client with little overhead, to generate load. It sends prepared requests over one connection, and parses only what is
//! needed to find the end of a response.

use std::io;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One connection, which is opened again after the server has closed it.
pub struct Wire {
    address: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// The status line and headers in lower case.
    pub head: String,
    pub body: String,
}

impl Reply {
    /// Returns the value of the header with this lower-case name, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    }
}

/// Builds a request with a JSON body.
pub fn post(path: &str, body: &Value) -> Vec<u8> {
    let no_headers = "";
    request(path, "application/json", no_headers, &body.to_string())
}

/// Builds a request with a form body. `authorization` is the value of the header `Authorization`.
pub fn post_form(path: &str, authorization: &str, form: &str) -> Vec<u8> {
    request(path, "application/x-www-form-urlencoded", &format!("Authorization: {authorization}\r\n"), form)
}

/// Builds a request with further `headers`, each of which ends with a line break.
fn request(path: &str, content_type: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    (head + body).into_bytes()
}

impl Wire {
    /// Prepares a connection to `http://HOST:PORT`, which the first call opens.
    pub fn to(base: &str) -> Self {
        let address = base.strip_prefix("http://").expect("the URL begins with http://").to_owned();
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Connects unless already connected.
    pub async fn connect(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Sends a request and reads the response.
    pub async fn call(&mut self, request: &[u8]) -> io::Result<Reply> {
        let result = self.exchange(request).await;
        // After an error, or if the server closes the connection, the next call opens a new one.
        let is_reusable = result.as_ref().is_ok_and(|reply| reply.header("connection") != "close");
        if !is_reusable {
            self.stream = None;
        }
        result
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.buffer.clear();
        self.connect().await?;
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.write_all(request).await?;
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut reply = Reply { status, head, body: String::new() };
        let length: usize = match reply.header("content-length") {
            "" => 0,
            length => length.parse().map_err(|_| io::ErrorKind::InvalidData)?,
        };
        while self.buffer.len() < head_end + length {
            self.read().await?;
        }
        reply.body = String::from_utf8_lossy(&self.buffer[head_end..]).into_owned();
        Ok(reply)
    }

    /// Appends what has arrived to the buffer.
    async fn read(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
