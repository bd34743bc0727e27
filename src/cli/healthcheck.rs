//! `latchkey healthcheck`: checks whether the node on this machine is alive, for containers without a shell or `curl`.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;

use super::Global;
use crate::config;

/// The time limit of each step: connecting, sending the request, and reading the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of `latchkey healthcheck`.
#[derive(Args, Clone, Copy, Debug)]
pub struct HealthcheckArgs {
    /// Check /readyz instead of /livez: fail also while Redis or the database can't be used
    #[arg(long)]
    pub ready: bool,
}

/// Fails unless the node at the configured address (`listen`) answers 200. Prints nothing on success.
///
/// # Errors
/// If the configuration can't be used, the node doesn't answer, or it answers with another status.
pub fn run(args: HealthcheckArgs, global: &Global) -> anyhow::Result<()> {
    let listen = config::load_listen(&global.sources()?)?;
    let address = reachable_address(listen);
    let path = if args.ready { "/readyz" } else { "/livez" };
    let status = request_status(address, path).with_context(|| format!("no answer from http://{address}{path}"))?;
    if status != "200" {
        bail!("http://{address}{path} answers {status}");
    }
    Ok(())
}

/// The address at which a client on this machine reaches a listener: loopback for a listener at all addresses.
fn reachable_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The status code of the answer to a GET request.
fn request_status(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    // the start of the status line, such as "HTTP/1.1 200"
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let start = std::str::from_utf8(&start)?;
    let status = start.strip_prefix("HTTP/1.1 ").with_context(|| format!("not an HTTP answer: {start:?}"))?;
    Ok(status.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_address_becomes_loopback() {
        let reachable = |listen: &str| reachable_address(listen.parse().unwrap()).to_string();
        assert_eq!(reachable("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(reachable("[::]:8080"), "[::1]:8080");
        assert_eq!(reachable("192.0.2.1:80"), "192.0.2.1:80");
    }
}
