//! One connection of the load generator.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::Instant,
};

use anyhow::bail;
use mio::{Interest, Poll, Token, net::TcpStream};

use super::{
    Workload,
    answer::{Answer, Frame, parse_frame},
};

/// A connection with at most one request in flight.
pub(super) struct Connection {
    stream: TcpStream,
    /// The request.
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    written: usize,
    /// The buffer for the response; grows as needed.
    input: Vec<u8>,
    /// Bytes of `input` that the socket has filled.
    filled: usize,
    /// The response in `input`, once it is complete.
    frame: Option<Frame>,
    /// The class of the request ([`Workload::request`]).
    class: usize,
    /// When the sending of the request began.
    sent_at: Instant,
    /// Whether a request was sent whose response is not complete yet.
    has_request_in_flight: bool,
}

/// The state of a connection after reading.
pub(super) enum Progress {
    /// The response is incomplete, or the connection has no request in flight.
    Waiting,
    /// The response is complete.
    Answered,
}

impl Connection {
    /// Connects, and registers the socket with `poll` under the connection's number.
    pub(super) fn open(address: SocketAddr, number: usize, poll: &Poll) -> anyhow::Result<Self> {
        // This call blocks, so it reports a server that can't be reached.
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            out: Vec::with_capacity(2048),
            written: 0,
            input: vec![0; 16 * 1024],
            filled: 0,
            frame: None,
            class: 0,
            sent_at: Instant::now(),
            has_request_in_flight: false,
        })
    }

    /// Sends the next request; returns false if there is none.
    pub(super) fn send_next(&mut self, workload: &mut dyn Workload, number: usize) -> anyhow::Result<bool> {
        self.out.clear();
        self.written = 0;
        self.filled = 0;
        self.frame = None;
        let Some(class) = workload.request(number, &mut self.out) else {
            self.has_request_in_flight = false;
            return Ok(false);
        };
        self.class = class;
        self.has_request_in_flight = true;
        self.sent_at = Instant::now();
        self.write()?;
        Ok(true)
    }

    /// Writes the rest of the request, as far as the socket takes it.
    fn write(&mut self) -> anyhow::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => bail!("the server closed the connection while a request was written"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes and reads until the response is complete or the socket would block.
    pub(super) fn advance(&mut self) -> anyhow::Result<Progress> {
        if !self.has_request_in_flight {
            return Ok(Progress::Waiting);
        }
        // The socket may not have taken the whole request yet.
        self.write()?;
        loop {
            if self.filled == self.input.len() {
                self.input.resize(self.filled * 2, 0);
            }
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => bail!("the server closed the connection before it answered"),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(frame) = parse_frame(&self.input[..self.filled])? {
                if frame.end != self.filled {
                    bail!("the server sent more than one answer to a request");
                }
                self.frame = Some(frame);
                self.has_request_in_flight = false;
                return Ok(Progress::Answered);
            }
        }
    }

    /// Returns the class of the request, the response, and the latency in microseconds. Valid after [`Progress::Answered`].
    pub(super) fn answer(&self) -> (usize, Answer<'_>, u32) {
        let micros = u32::try_from(self.sent_at.elapsed().as_micros()).unwrap_or(u32::MAX);
        let answer = match self.frame {
            Some(frame) => Answer {
                status: frame.status,
                head: &self.input[..frame.body_at],
                body: &self.input[frame.body_at..frame.end],
            },
            // There is no frame before `Progress::Answered`. Every workload refuses the status 0.
            None => Answer { status: 0, head: &[], body: &[] },
        };
        (self.class, answer, micros)
    }
}
