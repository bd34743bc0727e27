//! A subscriber of `GET /v1/revocations` (server-sent events, HTML Standard, section 9.2.6).

use std::{collections::HashSet, time::Duration};

use reqwest::{Method, Response};
use serde_json::Value;

use super::{client::Client, test_cluster::ServiceClient, wait};

/// A server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: Value,
}

/// A subscription to a node's revocation feed. Skips repeated revocations, which the protocol allows.
pub struct Feed {
    response: Response,
    unread: Vec<u8>,
    seen_revocations: HashSet<String>,
    /// The id of the last event that had one.
    pub last_id: Option<String>,
}

impl Feed {
    /// Subscribes to a node's feed. Retries until the node accepts the subscription.
    pub async fn open(client: &Client, service: &ServiceClient) -> Self {
        Self::open_after(client, service, None).await
    }

    /// Like [`Self::open`], resuming after the event `last_id`.
    pub async fn open_after(client: &Client, service: &ServiceClient, last_id: Option<&str>) -> Self {
        loop {
            let response = Self::try_open(client, service, last_id).await;
            if response.status() == 200 {
                assert_eq!(response.headers()["content-type"], "text/event-stream");
                assert_eq!(response.headers()["cache-control"], "no-store");
                let last_id = last_id.map(str::to_owned);
                return Self { response, unread: Vec::new(), seen_revocations: HashSet::new(), last_id };
            }
            // the node is not synchronized yet
            assert_eq!(response.status(), 503);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends one request to subscribe, resuming after the event `last_id`.
    pub async fn try_open(client: &Client, service: &ServiceClient, last_id: Option<&str>) -> Response {
        let mut request = client.request(Method::GET, "/v1/revocations").basic_auth(&service.id, Some(&service.secret));
        if let Some(last_id) = last_id {
            request = request.header("Last-Event-ID", last_id);
        }
        request.send().await.unwrap()
    }

    /// Returns the next event; `None` when the stream has ended or broken.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            // an empty line ends an event
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let event = self.parse(str::from_utf8(&block).unwrap());
                if event.name != "revocation" || self.seen_revocations.insert(event.data.to_string()) {
                    return Some(event);
                }
                continue;
            }
            let chunk = wait::within_timeout("an event arrives", self.response.chunk()).await;
            let Ok(Some(bytes)) = chunk else { return None };
            self.unread.extend(bytes);
        }
    }

    /// Parses the lines of an event, which has exactly one name and one line of data.
    fn parse(&mut self, block: &str) -> Event {
        let mut name = None;
        let mut data = None;
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").unwrap() {
                ("event", text) if name.is_none() => name = Some(text.to_owned()),
                ("data", text) if data.is_none() => data = Some(serde_json::from_str(text).unwrap()),
                ("id", text) => self.last_id = Some(text.to_owned()),
                (field, _) => panic!("an unexpected {field} in {block}"),
            }
        }
        Event { name: name.expect(block), data: data.expect(block) }
    }

    /// Returns the events before the next one of this name, without heartbeats. An `async fn` could not report its caller.
    #[track_caller]
    pub fn events_before(&mut self, name: &str) -> impl Future<Output = Vec<Event>> {
        let caller = std::panic::Location::caller();
        async move {
            let events = async {
                let mut before = Vec::new();
                loop {
                    let Some(event) = self.next().await else {
                        panic!("{caller}: the stream ended before the event {name}")
                    };
                    if event.name == name {
                        return before;
                    }
                    if event.name != "heartbeat" {
                        before.push(event);
                    }
                }
            };
            wait::within_timeout(&format!("the event {name} arrives ({caller})"), events).await
        }
    }

    /// Returns the revocations before the event `live`: those of the snapshot, or those missed since the last subscription.
    pub async fn caught_up(&mut self) -> Vec<Value> {
        let mut before = self.events_before("live").await;
        // a stream begins with one of these events, which the test may have read already
        if before.first().is_some_and(|event| matches!(event.name.as_str(), "snapshot" | "resumed")) {
            before.remove(0);
        }
        revocations(&before)
    }

    /// Waits for a heartbeat with a new id; panics on any other event.
    pub async fn wait_for_new_id(&mut self) {
        let last = self.last_id.clone();
        let new_id = async {
            while self.last_id == last {
                assert_eq!(self.events_before("heartbeat").await, []);
            }
        };
        wait::within_timeout("a heartbeat has a new id", new_id).await;
    }

    /// Returns the next revocation.
    pub async fn revocation(&mut self) -> Value {
        let revocation = async {
            loop {
                let event = self.next().await.expect("a revocation before the end");
                match event.name.as_str() {
                    "revocation" => return event.data,
                    "heartbeat" => {}
                    _ => panic!("{event:?} instead of a revocation"),
                }
            }
        };
        wait::within_timeout("a revocation arrives", revocation).await
    }

    /// Reads to the end of the stream.
    pub async fn read_to_end(mut self) {
        let end = async { while self.next().await.is_some() {} };
        wait::within_timeout("the stream ends", end).await;
    }
}

/// Returns the data of events, all of which must be revocations.
#[track_caller]
pub fn revocations(events: &[Event]) -> Vec<Value> {
    for event in events {
        assert_eq!(event.name, "revocation");
    }
    events.iter().map(|event| event.data.clone()).collect()
}
