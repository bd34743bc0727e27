//! Processor time per delivery with many subscribers on one node, compared with a bare broadcast-and-write loop.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

use super::{
    harness::{
        client::{Client, Tokens},
        test_cluster::ServiceClient,
        wait,
    },
    node_process::NodeProcess,
};

/// The number of subscribers of the node, and of the bare loop.
pub const SUBSCRIBERS: usize = 1000;
/// The number of events. Each is sent when the previous event has reached every subscriber.
pub const EVENTS: usize = 200;
/// The length in bytes of the text that the bare loop writes for an event, without the blank line after it: about that of a
/// `revocation` event of a node.
const EVENT_BYTES: usize = 230;

/// Subscribes to the node, signs out [`EVENTS`] of the sessions through `client`, and prints the processor time per delivery of the
/// node and of the bare loop.
pub async fn measure(client: &Client, node: &NodeProcess, service: &ServiceClient, sessions: Vec<Tokens>) {
    let received = Arc::new(AtomicU64::new(0));
    let address: SocketAddr = node.client.base.strip_prefix("http://").unwrap().parse().unwrap();
    for _ in 0..SUBSCRIBERS {
        let stream = subscribe(address, service).await;
        tokio::spawn(count_occurrences(stream, b"event: revocation", Arc::clone(&received)));
    }
    // the processor time of the node without events, which is subtracted below
    let idle_start = cpu_of(node.child.id());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle_per_second = (cpu_of(node.child.id()) - idle_start) / 2;

    let cpu_before = cpu_of(node.child.id());
    let began = Instant::now();
    let mut deliveries = 0;
    for tokens in sessions.into_iter().take(EVENTS) {
        client.logout(&tokens.refresh).await.expect(204);
        deliveries += SUBSCRIBERS as u64;
        wait::until("every subscriber has the event", || async { received.load(Ordering::Relaxed) >= deliveries })
            .await;
    }
    let idle = idle_per_second.mul_f64(began.elapsed().as_secs_f64());
    let spent = (cpu_of(node.child.id()) - cpu_before).saturating_sub(idle);
    let node_micros = micros_per_delivery(spent, deliveries);

    let bare_micros = measure_bare_loop().await;
    println!("{SUBSCRIBERS} subscribers, {EVENTS} events, processor time per delivery:");
    println!("  the node                                  {node_micros:6.2} µs");
    println!("  a bare tokio broadcast-and-write loop     {bare_micros:6.2} µs");
    println!("  ratio                                     {:6.2}", node_micros / bare_micros);
}

/// Opens a feed, and waits for the event by which the node reports that the subscriber is up to date.
async fn subscribe(address: SocketAddr, service: &ServiceClient) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let credentials = BASE64_STANDARD.encode(format!("{}:{}", service.id, service.secret));
    let request = format!("GET /v1/revocations HTTP/1.1\r\nhost: bench\r\nauthorization: Basic {credentials}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while find(&text, b"event: live").is_none() {
        let read = stream.read_buf(&mut text).await.unwrap();
        assert!(read > 0, "the feed has ended: {}", String::from_utf8_lossy(&text));
    }
    stream
}

/// The processor time per delivery, in microseconds, of a loop that does nothing but broadcast a text and write it to each socket. The
/// loop has a thread of its own, so that the time of that thread excludes the readers.
async fn measure_bare_loop() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let connecting = {
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            for _ in 0..SUBSCRIBERS {
                let stream = TcpStream::connect(address).await.unwrap();
                tokio::spawn(count_occurrences(stream, b"\n\n", Arc::clone(&received)));
            }
        })
    };
    // a listener belongs to a runtime, and the loop has a runtime of its own
    let listener = listener.into_std().unwrap();
    let writer = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let (sender, _) = broadcast::channel::<Arc<[u8]>>(16);
            for _ in 0..SUBSCRIBERS {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut texts = sender.subscribe();
                tokio::spawn(async move {
                    while let Ok(text) = texts.recv().await {
                        stream.write_all(&text).await.unwrap();
                    }
                });
            }
            let cpu_before = cpu_of_this_thread();
            for event in 1..=EVENTS as u64 {
                let mut text = vec![b'x'; EVENT_BYTES];
                text.extend(b"\n\n");
                sender.send(text.into()).unwrap();
                while received.load(Ordering::Relaxed) < event * SUBSCRIBERS as u64 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            micros_per_delivery(cpu_of_this_thread() - cpu_before, (EVENTS * SUBSCRIBERS) as u64)
        })
    });
    connecting.await.unwrap();
    tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap()
}

/// Counts in `total` how often `pattern` arrives, until the stream ends.
async fn count_occurrences(mut stream: TcpStream, pattern: &'static [u8], total: Arc<AtomicU64>) {
    let mut buffer = vec![0; 4096];
    let mut kept = 0;
    loop {
        let read = stream.read(&mut buffer[kept..]).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        let text = &buffer[..kept + read];
        let (mut searched, mut found) = (0, 0);
        while let Some(at) = find(&text[searched..], pattern) {
            searched += at + pattern.len();
            found += 1;
        }
        total.fetch_add(found, Ordering::Relaxed);
        // the end of the text may be the beginning of the pattern, so the next read is appended to it
        let rest_start = searched.max(text.len().saturating_sub(pattern.len() - 1));
        let rest = rest_start..text.len();
        kept = rest.len();
        buffer.copy_within(rest, 0);
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

/// The processor time of all threads of a process.
fn cpu_of(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // a thread that has just ended counts as 0
    threads
        .map(|thread| on_cpu(&fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default()))
        .sum()
}

fn cpu_of_this_thread() -> Duration {
    on_cpu(&fs::read_to_string("/proc/thread-self/schedstat").unwrap())
}

/// The time that a thread has spent on a processor: the first number of its `schedstat`, in nanoseconds.
fn on_cpu(schedstat: &str) -> Duration {
    Duration::from_nanos(schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
fn micros_per_delivery(time: Duration, deliveries: u64) -> f64 {
    time.as_secs_f64() * 1e6 / deliveries as f64
}
