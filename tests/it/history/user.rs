//! A simulated user: logs in, refreshes correctly and incorrectly, checks sessions, logs out, and uses ended sessions.

mod ends;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{
    model::{Answer, Call, Interval, Network, Op},
    nodes::{ProcessCluster, REQUEST_TIMEOUT},
    random::Random,
    record::{Affected, Record},
};

/// A client address in each network: in the user's two networks (0 and 1), between which the user moves, and in the thief's (2).
const NETWORK_ADDRESSES: [&str; 3] = ["192.0.2.7", "198.51.100.4", "203.0.113.9"];
const THIEF: Network = 2;
/// How often a user acts on a session that is known to have ended, to test that it stays ended.
const TRIES_AFTER_END: usize = 4;

/// The outcome of a request.
enum Reply {
    /// The status and the JSON body of the response.
    Answered(u16, Value),
    /// The request may or may not have been executed.
    Unknown,
    /// The request was certainly not executed: the node was unreachable, or refused the request by a rate limit.
    NotExecuted,
}

/// Whether the response to a refresh reaches the client.
#[derive(Clone, Copy, PartialEq)]
enum Delivery {
    Arrives,
    Lost,
}

/// A session as its user knows it.
struct Session {
    id: String,
    access: String,
    /// Refresh tokens with their generations, oldest first. A correct client presents the last one.
    refresh: Vec<(u32, String)>,
    /// How often the user still acts on the session, once it is known to have ended. `None` while it is live.
    tries: Option<usize>,
}

/// One user, with an account.
pub struct User<'a> {
    cluster: &'a ProcessCluster,
    record: &'a Record,
    number: usize,
    name: String,
    random: Random,
    /// The network that the user is in.
    network: Network,
    sessions: Vec<Session>,
    /// The possible passwords, oldest first: two if a change was not answered and is not known to be executed.
    passwords: Vec<String>,
    /// The number of password changes that were sent.
    changes: usize,
}

impl<'a> User<'a> {
    /// Registers the account, before any fault is injected.
    pub async fn register(
        cluster: &'a ProcessCluster,
        record: &'a Record,
        number: usize,
        name: String,
        random: Random,
    ) -> Self {
        let password = "tidal engine verse marmalade".to_owned();
        let body = json!({ "email": format!("{name}@example.com"), "username": &name, "password": password });
        let answer = cluster.nodes[0].request(Method::POST, "/v1/users").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        Self {
            cluster,
            record,
            number,
            name,
            random,
            network: 0,
            sessions: Vec::new(),
            passwords: vec![password],
            changes: 0,
        }
    }

    /// Makes random calls until `end`, a time since the history began.
    pub async fn run(&mut self, end: Duration) {
        while self.record.elapsed() < end {
            self.act().await;
            let pause = self.random.millis(0, 100);
            tokio::time::sleep(pause).await;
        }
    }

    /// Checks and refreshes every session after the faults, so that the history shows lost writes and ended sessions that are live.
    pub async fn use_all_sessions(&mut self) {
        for index in 0..self.sessions.len() {
            self.check_session(index).await;
            let current = self.sessions[index].refresh.len() - 1;
            self.refresh(index, current, 1).await;
        }
    }

    /// Makes one random call, or several calls that belong together.
    async fn act(&mut self) {
        self.sessions.retain(|session| session.tries != Some(0));
        // a user has at most four live sessions
        let live = self.sessions.iter().filter(|session| session.tries.is_none()).count();
        if live == 0 || (live < 4 && self.random.percent(6)) {
            return self.login().await;
        }
        let index = self.random.below(self.sessions.len());
        if let Some(tries) = &mut self.sessions[index].tries {
            *tries -= 1;
        }
        let last = self.sessions[index].refresh.len() - 1;
        // now and then the user moves to the other network
        if self.random.percent(5) {
            self.network = 1 - self.network;
        }
        // the ranges are shares in percent
        match self.random.below(100) {
            0..38 => self.refresh(index, last, 1).await,
            38..48 => self.refresh(index, last, 2).await,
            48..50 => self.refresh(index, last, 4).await,
            // an old token, as of a slow tab or a thief
            50..60 => {
                // one of the last 3 or of the last 12 tokens
                let last_tokens = *self.random.pick(&[3, 12]);
                let old = last.saturating_sub(self.random.below(last_tokens));
                let network = if self.random.percent(50) { THIEF } else { self.network };
                self.refresh_from(network, index, old, 1).await;
            }
            60..68 => self.retry_lost_refresh(index, last).await,
            68..72 => self.abandon_refresh(index, last).await,
            72..74 => self.simulate_thief(index).await,
            74..90 => self.check_session(index).await,
            90..94 => self.logout(index).await,
            94..96 => self.logout_during_refresh(index, last).await,
            96..97 => self.end_another(index).await,
            97..98 => {
                let keep_caller = true;
                self.end_all(index, keep_caller).await;
            }
            98..99 => {
                let keep_caller = false;
                self.end_all(index, keep_caller).await;
            }
            _ => self.change_password(index).await,
        }
    }

    /// Sends a request to a node and returns the reply and its times. `finish` adds headers and the body. After `timeout`, the
    /// request is abandoned.
    async fn send(
        &self,
        node: usize,
        finish: impl FnOnce(RequestBuilder) -> RequestBuilder,
        (method, path): (Method, &str),
        timeout: Duration,
    ) -> (Reply, Interval) {
        let earliest = self.record.now();
        let request = finish(self.cluster.nodes[node].request(method.clone(), path));
        let sending = async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
        };
        let reply = match tokio::time::timeout(timeout, sending).await {
            // the request was abandoned
            Err(_) => Reply::Unknown,
            Ok(Err(error)) if error.is_connect() => Reply::NotExecuted,
            Ok(Err(_)) => Reply::Unknown,
            Ok(Ok((429, ..))) => Reply::NotExecuted,
            Ok(Ok((503, headers, _))) => {
                if !headers.contains_key("retry-after") {
                    self.record.record_violation(format!("{method} {path}: 503 without Retry-After"));
                }
                Reply::Unknown
            }
            Ok(Ok((status, _, body))) => Reply::Answered(status, serde_json::from_slice(&body).unwrap_or(Value::Null)),
        };
        (reply, Interval { earliest, latest: self.record.now() })
    }

    fn any_node(&mut self) -> usize {
        self.random.below(self.cluster.nodes.len())
    }

    fn record_violation(&self, what: &str, status: u16, body: &Value) {
        self.record.record_violation(format!("user {}: {what} was answered {status} {body}", self.number));
    }

    /// Records a call whose network does not matter, and its answer.
    fn note(&self, session: &str, call: Call, answer: Answer, span: Interval) {
        let any_network = 0;
        self.note_from(any_network, session, call, answer, span);
    }

    /// Records a call from this network and its answer.
    fn note_from(&self, network: Network, session: &str, call: Call, answer: Answer, span: Interval) {
        let op = Op { call, answer, network, span };
        self.record.record_call(self.number, Affected::Session(session.to_owned()), op);
    }

    /// Marks a session as ended, unless it is marked already. The user then acts on it a few more times.
    fn mark_ended(&mut self, index: usize) {
        self.sessions[index].tries.get_or_insert(TRIES_AFTER_END);
    }

    async fn login(&mut self) {
        let node = self.any_node();
        let possible_passwords = self.passwords.len();
        // the newest password first
        for password in self.passwords.clone().into_iter().rev() {
            let body = json!({ "identifier": self.name, "password": password });
            let finish = |request: RequestBuilder| from_network(request, self.network).json(&body);
            let (reply, span) = self.send(node, finish, (Method::POST, "/v1/login"), REQUEST_TIMEOUT).await;
            match reply {
                Reply::Answered(200, body) => {
                    let text = |field: &str| body[field].as_str().unwrap().to_owned();
                    let id = text("session_id");
                    let refresh = text("refresh_token");
                    self.note_from(self.network, &id, Call::Login, token_answer(&refresh), span);
                    let first_generation = 0;
                    let refresh = vec![(first_generation, refresh)];
                    self.sessions.push(Session { id, access: text("access_token"), refresh, tries: None });
                    // Of two passwords, the newer one shows that the change was executed. The older one shows nothing: the change
                    // may still be executed.
                    if let [older, newer] = &self.passwords[..]
                        && *newer == password
                    {
                        let older = older.clone();
                        self.passwords = vec![password];
                        self.try_old_password(&older).await;
                    }
                    return;
                }
                Reply::Answered(401, _) => {}
                Reply::Answered(status, body) => return self.record_violation("a login", status, &body),
                Reply::Unknown | Reply::NotExecuted => return,
            }
        }
        // an unanswered password change may be executed between the two tries: then the next login succeeds
        if possible_passwords == 1 {
            self.record.record_violation(format!("user {}: the right password was refused", self.number));
        }
    }

    /// Presents a token `times` times concurrently, from the user's network.
    async fn refresh(&mut self, index: usize, token_index: usize, times: usize) {
        self.refresh_from(self.network, index, token_index, times).await;
    }

    /// Presents a token `times` times concurrently, from this network.
    async fn refresh_from(&mut self, network: Network, index: usize, token_index: usize, times: usize) {
        let (generation, text) = self.sessions[index].refresh[token_index].clone();
        let nodes: Vec<usize> = (0..times).map(|_| self.any_node()).collect();
        let replies = {
            let present_once = |node: usize| self.present(node, &text, network, REQUEST_TIMEOUT);
            join_all(nodes.into_iter().map(present_once)).await
        };
        for (reply, span) in replies {
            self.note_refresh(index, (generation, network), reply, span, Delivery::Arrives);
        }
    }

    /// A thief in another network presents each token just after the user did. The fourth time ends the session, by
    /// `session.counted_repeats_limit`. The thief's responses do not reach the user.
    async fn simulate_thief(&mut self, index: usize) {
        for _ in 0..4 {
            let last = self.sessions[index].refresh.len() - 1;
            self.refresh(index, last, 1).await;
            let (generation, text) = self.sessions[index].refresh[last].clone();
            let node = self.any_node();
            let (reply, span) = self.present(node, &text, THIEF, REQUEST_TIMEOUT).await;
            self.note_refresh(index, (generation, THIEF), reply, span, Delivery::Lost);
        }
    }

    /// Presents a refresh token to a node.
    async fn present(&self, node: usize, token: &str, network: Network, timeout: Duration) -> (Reply, Interval) {
        let body = json!({ "refresh_token": token });
        let finish = |request: RequestBuilder| from_network(request, network).json(&body);
        self.send(node, finish, (Method::POST, "/v1/refresh"), timeout).await
    }

    /// Records the answer to a refresh. If the answer arrives, the client uses the new token from then on.
    fn note_refresh(
        &mut self,
        index: usize,
        (presented, network): (u32, Network),
        reply: Reply,
        span: Interval,
        delivery: Delivery,
    ) {
        let id = self.sessions[index].id.clone();
        let answer = match reply {
            Reply::Answered(200, body) => {
                let text = body["refresh_token"].as_str().unwrap().to_owned();
                let answer = token_answer(&text);
                let Answer::Token(generation, _) = answer else { unreachable!("`token_answer` returns a token") };
                if body["session_id"] != id.as_str() {
                    self.record_violation("a refresh", 200, &body["session_id"]);
                }
                let session = &mut self.sessions[index];
                if delivery == Delivery::Arrives && session.refresh.last().is_some_and(|(last, _)| *last < generation) {
                    session.refresh.push((generation, text));
                    session.access = body["access_token"].as_str().unwrap().to_owned();
                }
                answer
            }
            Reply::Answered(401, body) if body["code"] == "refresh_token_reused" => Answer::Reused,
            Reply::Answered(401, body)
                if body["code"] == "invalid_refresh_token" || body["code"] == "session_expired" =>
            {
                Answer::Gone
            }
            Reply::Answered(status, body) => return self.record_violation("a refresh", status, &body),
            Reply::Unknown => Answer::Unknown,
            Reply::NotExecuted => return,
        };
        if matches!(answer, Answer::Gone | Answer::Reused) {
            self.mark_ended(index);
        }
        self.note_from(network, &id, Call::Refresh(presented), answer, span);
    }

    /// Simulates a lost response: presents the same token again, at once or later.
    async fn retry_lost_refresh(&mut self, index: usize, last: usize) {
        let (generation, text) = self.sessions[index].refresh[last].clone();
        let node = self.any_node();
        let (reply, span) = self.present(node, &text, self.network, REQUEST_TIMEOUT).await;
        self.note_refresh(index, (generation, self.network), reply, span, Delivery::Lost);
        if self.random.percent(30) {
            self.network = 1 - self.network;
        }
        let pause = if self.random.percent(30) { self.random.millis(0, 1500) } else { self.random.millis(0, 50) };
        tokio::time::sleep(pause).await;
        self.refresh(index, last, 1).await;
    }

    /// Closes the connection of a refresh after a few milliseconds, unless the node has answered: it may still handle the refresh.
    async fn abandon_refresh(&mut self, index: usize, last: usize) {
        let (generation, text) = self.sessions[index].refresh[last].clone();
        let (node, timeout) = (self.any_node(), self.random.millis(0, 20));
        let (reply, span) = self.present(node, &text, self.network, timeout).await;
        self.note_refresh(index, (generation, self.network), reply, span, Delivery::Arrives);
    }

    async fn check_session(&mut self, index: usize) {
        let node = self.any_node();
        let (id, access) = (self.sessions[index].id.clone(), self.sessions[index].access.clone());
        let (reply, span) =
            self.send(node, |request| request.bearer_auth(access), (Method::GET, "/v1/me"), REQUEST_TIMEOUT).await;
        let answer = match reply {
            Reply::Answered(200, _) => Answer::Live,
            Reply::Answered(401, _) => Answer::Gone,
            Reply::Answered(status, body) => return self.record_violation("GET /v1/me", status, &body),
            Reply::Unknown | Reply::NotExecuted => return,
        };
        if answer == Answer::Gone {
            self.mark_ended(index);
        }
        self.note(&id, Call::Check, answer, span);
    }
}

/// Adds the header that a proxy adds to a request from this network.
fn from_network(request: RequestBuilder, network: Network) -> RequestBuilder {
    request.header("x-forwarded-for", NETWORK_ADDRESSES[usize::from(network)])
}

/// A refresh token as an answer: its generation and a hash of its text. Does not check its MAC.
fn token_answer(text: &str) -> Answer {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix("lk_rt_").unwrap()).unwrap();
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    // the generation follows the version (1 byte), the account's id and the session's id (16 bytes each)
    let generation = u32::from_be_bytes(bytes[33..37].try_into().unwrap());
    Answer::Token(generation, hasher.finish())
}
