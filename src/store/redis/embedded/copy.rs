//! Copies the data of the embedded server while the server runs, and prepares a folder in which a server starts with a copy.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::create_private_folder;

/// How long the server may send nothing. While it prepares the snapshot, it sends a line feed every second.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// The folder with the append-only data of a server since Redis 7, in the folder of the server.
const APPEND_ONLY_FOLDER: &str = "appendonlydir";

/// The file with the append-only data of a server before Redis 7, in the folder of the server.
const APPEND_ONLY_FILE: &str = "appendonly.aof";

/// Sends SYNC, the command of replicas, to the server at `socket`, and writes the snapshot that it returns, in Redis' RDB format, to
/// `file`. The snapshot holds every write that was acknowledged before the call. Returns the size of the snapshot in bytes.
///
/// # Errors
/// If the server can't be reached or does not send a snapshot, or the file can't be written.
pub async fn copy(socket: &Path, file: &mut File) -> io::Result<u64> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"SYNC\r\n").await?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    // Skips line feeds up to the snapshot's header, which is `$` and the length of the snapshot.
    while line.trim_end().is_empty() {
        line.clear();
        if timeout(MAX_SILENCE, stream.read_line(&mut line)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let header = line.trim_end();
    let length = header.strip_prefix('$').and_then(|length| length.parse::<u64>().ok());
    let length = length.ok_or_else(|| io::Error::other(format!("the server's answer to SYNC: {header}")))?;
    let mut snapshot = stream.take(length);
    let mut buffer = vec![0; 64 * 1024];
    while snapshot.limit() > 0 {
        let read = timeout(MAX_SILENCE, snapshot.read(&mut buffer)).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&buffer[..read]).await?;
    }
    file.sync_all().await?;
    Ok(length)
}

/// Whether the folder holds no data of a server.
pub fn is_unused(dir: &Path) -> bool {
    [APPEND_ONLY_FOLDER, APPEND_ONLY_FILE].iter().all(|name| !dir.join(name).exists())
}

/// Places a snapshot in the folder of a server that has not run yet. The server will start with the data of the snapshot.
///
/// A server that uses an append-only file reads no snapshot file. But an append-only file may begin with a snapshot, and servers since
/// Redis 7 adopt the single append-only file of older servers. So the snapshot gets the name of that file.
///
/// # Errors
/// If the folder already holds data of a server, or a file can't be read or written.
pub fn restore(snapshot: &Path, dir: &Path) -> io::Result<()> {
    create_private_folder(dir)?;
    if !is_unused(dir) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Renamed when it is complete, so that no server starts with a part of the data.
    let unfinished = dir.join("restore.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    io::copy(&mut fs::File::open(snapshot)?, &mut file)?;
    file.sync_all()?;
    fs::rename(unfinished, dir.join(APPEND_ONLY_FILE))?;
    // A rename is durable once its folder is synchronized.
    fs::File::open(dir)?.sync_all()
}
