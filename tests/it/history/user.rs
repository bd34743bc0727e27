//! A simulated user: signs in, refreshes as clients do and as they shouldn't, looks, signs out, and tries what is over.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{
    model::{Answer, Call, When},
    nodes::Bench,
    random::Random,
    record::{About, Record},
};

/// What came back from a node, if anything did.
enum Reply {
    Answered(u16, Value),
    /// Whether it was carried out is unknown.
    Unknown,
    /// It certainly was not.
    Never,
}

struct Session {
    id: String,
    access: String,
    /// Oldest first, each with its generation; the last is what a careful client would present.
    refresh: Vec<(u32, String)>,
    /// How often more to try it, once it is known to be over.
    tries: Option<usize>,
}

/// One user, with an account.
pub struct User<'a> {
    bench: &'a Bench,
    record: &'a Record,
    number: usize,
    name: String,
    random: Random,
    sessions: Vec<Session>,
    /// What the password may be: two where a change was never answered.
    passwords: Vec<String>,
    changes: usize,
}

impl<'a> User<'a> {
    /// Registers the account, on nodes that are well.
    pub async fn register(bench: &'a Bench, record: &'a Record, number: usize, name: String, random: Random) -> Self {
        let password = "tidal engine verse marmalade".to_owned();
        let body = json!({ "email": format!("{name}@example.com"), "username": &name, "password": password });
        let answer = bench.nodes[0].request(Method::POST, "/v1/users").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        Self { bench, record, number, name, random, sessions: Vec::new(), passwords: vec![password], changes: 0 }
    }

    /// Does this and that until `done`.
    pub async fn live(&mut self, done: Duration) {
        while self.record.elapsed() < done {
            self.act().await;
            let pause = self.random.millis(0, 100);
            tokio::time::sleep(pause).await;
        }
    }

    /// Nothing that was acknowledged may be missing in the end, and nothing that was ended may be there.
    pub async fn take_stock(&mut self) {
        for which in 0..self.sessions.len() {
            self.look(which).await;
            let current = self.sessions[which].refresh.len() - 1;
            self.refresh(which, current, 1).await;
        }
    }

    async fn act(&mut self) {
        self.sessions.retain(|session| session.tries != Some(0));
        let well = self.sessions.iter().filter(|session| session.tries.is_none()).count();
        if well == 0 || (well < 4 && self.random.percent(6)) {
            return self.login().await;
        }
        let which = self.random.below(self.sessions.len());
        if let Some(tries) = &mut self.sessions[which].tries {
            *tries -= 1;
        }
        let last = self.sessions[which].refresh.len() - 1;
        match self.random.below(100) {
            0..38 => self.refresh(which, last, 1).await,
            38..48 => self.refresh(which, last, 2).await,
            48..50 => self.refresh(which, last, 4).await,
            // an old one: of a slow tab, or stolen
            50..60 => {
                let furthest = *self.random.pick(&[3, 12]);
                let old = last.saturating_sub(self.random.below(furthest));
                self.refresh(which, old, 1).await;
            }
            60..68 => self.lose_an_answer(which, last).await,
            68..72 => self.give_up_waiting(which, last).await,
            72..90 => self.look(which).await,
            90..94 => self.sign_out(which).await,
            94..96 => self.sign_out_beside_a_refresh(which, last).await,
            96..97 => self.end_another(which).await,
            97..98 => self.end_all(which, true).await,
            98..99 => self.end_all(which, false).await,
            _ => self.change_password(which).await,
        }
    }

    /// Asks a node, any; gives what it says and when. `patience`: gives up after so long.
    async fn ask(
        &self,
        node: usize,
        finish: impl FnOnce(RequestBuilder) -> RequestBuilder,
        (method, path): (Method, &str),
        patience: Option<Duration>,
    ) -> (Reply, When) {
        let from = self.record.now();
        let request = finish(self.bench.nodes[node].request(method.clone(), path));
        let asking = async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
        };
        let patience = patience.unwrap_or(Duration::from_secs(60));
        let reply = match tokio::time::timeout(patience, asking).await {
            Err(_) => Reply::Unknown,
            Ok(Err(error)) if error.is_connect() => Reply::Never,
            Ok(Err(_)) => Reply::Unknown,
            Ok(Ok((429, ..))) => Reply::Never,
            Ok(Ok((503, headers, _))) => {
                if !headers.contains_key("retry-after") {
                    self.record.surprise(format!("{method} {path}: 503 without Retry-After"));
                }
                Reply::Unknown
            }
            Ok(Ok((status, _, body))) => Reply::Answered(status, serde_json::from_slice(&body).unwrap_or(Value::Null)),
        };
        (reply, (from, self.record.now()))
    }

    fn any_node(&mut self) -> usize {
        self.random.below(self.bench.nodes.len())
    }

    fn surprise(&self, what: &str, status: u16, body: &Value) {
        self.record.surprise(format!("user {}: {what} was answered {status} {body}", self.number));
    }

    fn note(&self, session: &str, call: Call, answer: Answer, span: When) {
        self.record.note(self.number, About::Session(session.to_owned()), call, answer, span);
    }

    fn is_over(&mut self, which: usize) {
        self.sessions[which].tries.get_or_insert(4);
    }

    async fn login(&mut self) {
        let node = self.any_node();
        let (mut tried, start) = (Vec::new(), self.passwords.len());
        for password in self.passwords.clone().into_iter().rev() {
            let body = json!({ "identifier": self.name, "password": password });
            let (reply, span) = self.ask(node, |ask| ask.json(&body), (Method::POST, "/v1/login"), None).await;
            match reply {
                Reply::Answered(200, body) => {
                    let text = |field: &str| body[field].as_str().unwrap().to_owned();
                    let (id, refresh) = (text("session_id"), text("refresh_token"));
                    self.note(&id, Call::Login, token(&refresh), span);
                    let (access, refresh) = (text("access_token"), vec![(0, refresh)]);
                    self.sessions.push(Session { id, access, refresh, tries: None });
                    return;
                }
                Reply::Answered(401, _) => tried.push(password),
                Reply::Answered(status, body) => return self.surprise("a sign-in", status, &body),
                Reply::Unknown | Reply::Never => return,
            }
        }
        // a change that was never answered may be carried out between two tries: then the next sign-in works
        if start == 1 {
            self.record.surprise(format!("user {}: the right password was refused", self.number));
        }
    }

    /// Presents a token, as often at once.
    async fn refresh(&mut self, which: usize, token_index: usize, times: usize) {
        let (generation, text) = self.sessions[which].refresh[token_index].clone();
        let nodes: Vec<usize> = (0..times).map(|_| self.any_node()).collect();
        let replies = {
            let ask_one = |node: usize| self.present(node, &text, None);
            join_all(nodes.into_iter().map(ask_one)).await
        };
        for (reply, span) in replies {
            self.refreshed(which, generation, reply, span, true);
        }
    }

    async fn present(&self, node: usize, token: &str, patience: Option<Duration>) -> (Reply, When) {
        let body = json!({ "refresh_token": token });
        self.ask(node, |ask| ask.json(&body), (Method::POST, "/v1/refresh"), patience).await
    }

    /// Notes the answer to a refresh; `arrived`: and goes on with it.
    fn refreshed(&mut self, which: usize, presented: u32, reply: Reply, span: When, arrived: bool) {
        let id = self.sessions[which].id.clone();
        let answer = match reply {
            Reply::Answered(200, body) => {
                let text = body["refresh_token"].as_str().unwrap().to_owned();
                let answer = token(&text);
                let Answer::Token(generation, _) = answer else { unreachable!("it is one") };
                if body["session_id"] != id.as_str() {
                    self.surprise("a refresh", 200, &body["session_id"]);
                }
                let session = &mut self.sessions[which];
                if arrived && session.refresh.last().is_some_and(|(last, _)| *last < generation) {
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
            Reply::Answered(status, body) => return self.surprise("a refresh", status, &body),
            Reply::Unknown => Answer::Unknown,
            Reply::Never => return,
        };
        if matches!(answer, Answer::Gone | Answer::Reused) {
            self.is_over(which);
        }
        self.note(&id, Call::Refresh(presented), answer, span);
    }

    /// The answer gets lost on its way: the same is presented again, at once or after a while.
    async fn lose_an_answer(&mut self, which: usize, last: usize) {
        let (generation, text) = self.sessions[which].refresh[last].clone();
        let node = self.any_node();
        let (reply, span) = self.present(node, &text, None).await;
        self.refreshed(which, generation, reply, span, false);
        let pause = if self.random.percent(30) { self.random.millis(0, 1500) } else { self.random.millis(0, 50) };
        tokio::time::sleep(pause).await;
        self.refresh(which, last, 1).await;
    }

    /// The connection is given up while the node works on it.
    async fn give_up_waiting(&mut self, which: usize, last: usize) {
        let (generation, text) = self.sessions[which].refresh[last].clone();
        let (node, patience) = (self.any_node(), self.random.millis(0, 20));
        let (reply, span) = self.present(node, &text, Some(patience)).await;
        self.refreshed(which, generation, reply, span, true);
    }

    async fn look(&mut self, which: usize) {
        let node = self.any_node();
        let (id, access) = (self.sessions[which].id.clone(), self.sessions[which].access.clone());
        let (reply, span) = self.ask(node, |ask| ask.bearer_auth(access), (Method::GET, "/v1/me"), None).await;
        let answer = match reply {
            Reply::Answered(200, _) => Answer::Lives,
            Reply::Answered(401, _) => Answer::Gone,
            Reply::Answered(status, body) => return self.surprise("GET /v1/me", status, &body),
            Reply::Unknown | Reply::Never => return,
        };
        if answer == Answer::Gone {
            self.is_over(which);
        }
        self.note(&id, Call::Look, answer, span);
    }

    async fn sign_out(&mut self, which: usize) {
        let (node, by_access) = (self.any_node(), self.random.percent(50));
        let session = &self.sessions[which];
        let (id, access) = (session.id.clone(), session.access.clone());
        let body = json!({ "refresh_token": session.refresh.last().unwrap().1 });
        let finish = |ask: RequestBuilder| if by_access { ask.bearer_auth(access) } else { ask.json(&body) };
        let (reply, span) = self.ask(node, finish, (Method::POST, "/v1/logout"), None).await;
        let answer = match reply {
            Reply::Answered(204, _) => Answer::Done,
            // an access token expires with its session
            Reply::Answered(401, _) if by_access => Answer::Gone,
            Reply::Answered(status, body) => return self.surprise("a sign-out", status, &body),
            Reply::Unknown => Answer::Unknown,
            Reply::Never => return,
        };
        if answer != Answer::Unknown {
            self.is_over(which);
        }
        self.note(&id, Call::End, answer, span);
    }

    async fn sign_out_beside_a_refresh(&mut self, which: usize, last: usize) {
        let (generation, text) = self.sessions[which].refresh[last].clone();
        let (id, nodes) = (self.sessions[which].id.clone(), [self.any_node(), self.any_node()]);
        let body = json!({ "refresh_token": text });
        let ((reply, span), (ended, ending)) = tokio::join!(
            self.present(nodes[0], &text, None),
            self.ask(nodes[1], |ask| ask.json(&body), (Method::POST, "/v1/logout"), None),
        );
        self.refreshed(which, generation, reply, span, true);
        match ended {
            Reply::Answered(204, _) => {
                self.is_over(which);
                self.note(&id, Call::End, Answer::Done, ending);
            }
            Reply::Answered(status, body) => self.surprise("a sign-out", status, &body),
            Reply::Unknown => self.note(&id, Call::End, Answer::Unknown, ending),
            Reply::Never => {}
        }
    }

    /// Ends a session from another.
    async fn end_another(&mut self, asking: usize) {
        let ended = self.random.below(self.sessions.len());
        let (node, id) = (self.any_node(), self.sessions[ended].id.clone());
        let (asking_id, access) = (self.sessions[asking].id.clone(), self.sessions[asking].access.clone());
        let path = format!("/v1/sessions/{id}");
        let (reply, span) = self.ask(node, |ask| ask.bearer_auth(access), (Method::DELETE, &path), None).await;
        match reply {
            Reply::Answered(204, _) => {
                if ended != asking {
                    self.note(&asking_id, Call::Look, Answer::Lives, span);
                }
                self.is_over(ended);
                self.note(&id, Call::End, Answer::Done, span);
            }
            // the one that asks is over
            Reply::Answered(401, _) => {
                self.is_over(asking);
                self.note(&asking_id, Call::Look, Answer::Gone, span);
            }
            // the other is, and the one that asks lives
            Reply::Answered(404, _) => {
                self.is_over(ended);
                self.note(&asking_id, Call::Look, Answer::Lives, span);
                self.note(&id, Call::End, Answer::Gone, span);
            }
            Reply::Answered(status, body) => self.surprise("ending a session", status, &body),
            Reply::Unknown => self.note(&id, Call::End, Answer::Unknown, span),
            Reply::Never => {}
        }
    }

    /// Notes that all sessions were ended, or may have been, by this one.
    fn all_ended(&mut self, asking: usize, keeps_it: bool, answer: Answer, span: When) {
        let id = self.sessions[asking].id.clone();
        if answer == Answer::Done {
            if keeps_it {
                self.note(&id, Call::Look, Answer::Lives, span);
            }
            for which in (0..self.sessions.len()).filter(|which| !keeps_it || *which != asking) {
                self.is_over(which);
            }
        }
        self.record.note(self.number, About::All { but: keeps_it.then_some(id) }, Call::End, answer, span);
    }

    async fn end_all(&mut self, asking: usize, keeps_it: bool) {
        let (node, access) = (self.any_node(), self.sessions[asking].access.clone());
        let path = if keeps_it { "/v1/sessions?keep_current=true" } else { "/v1/sessions" };
        let (reply, span) = self.ask(node, |ask| ask.bearer_auth(access), (Method::DELETE, path), None).await;
        match reply {
            Reply::Answered(200, _) => self.all_ended(asking, keeps_it, Answer::Done, span),
            Reply::Answered(401, _) => {
                self.is_over(asking);
                let id = self.sessions[asking].id.clone();
                self.note(&id, Call::Look, Answer::Gone, span);
            }
            Reply::Answered(status, body) => self.surprise("ending all sessions", status, &body),
            Reply::Unknown => self.all_ended(asking, keeps_it, Answer::Unknown, span),
            Reply::Never => {}
        }
    }

    async fn change_password(&mut self, asking: usize) {
        let [current] = &self.passwords[..] else { return self.login().await };
        let (current, node) = (current.clone(), self.random.below(self.bench.nodes.len()));
        self.changes += 1;
        let new = format!("{} lantern orchid {}", self.number * 7919, self.changes * 104_729);
        let body = json!({ "current_password": &current, "new_password": &new });
        let access = self.sessions[asking].access.clone();
        let finish = |ask: RequestBuilder| ask.bearer_auth(access).json(&body);
        let (reply, span) = self.ask(node, finish, (Method::POST, "/v1/me/password"), None).await;
        match reply {
            Reply::Answered(204, _) => {
                self.all_ended(asking, true, Answer::Done, span);
                self.passwords = vec![new];
                self.try_old_password(&current).await;
            }
            Reply::Answered(401, _) => {
                self.is_over(asking);
                let id = self.sessions[asking].id.clone();
                self.note(&id, Call::Look, Answer::Gone, span);
            }
            Reply::Answered(status, body) => self.surprise("changing a password", status, &body),
            Reply::Unknown => {
                self.all_ended(asking, true, Answer::Unknown, span);
                self.passwords.push(new);
            }
            Reply::Never => {}
        }
    }

    async fn try_old_password(&mut self, old: &str) {
        let node = self.any_node();
        let body = json!({ "identifier": self.name, "password": old });
        let (reply, _) = self.ask(node, |ask| ask.json(&body), (Method::POST, "/v1/login"), None).await;
        if let Reply::Answered(200, _) = reply {
            self.record.surprise(format!("user {}: a password that was changed still works", self.number));
        }
    }
}

/// What there is to know of a refresh token without its key.
fn token(text: &str) -> Answer {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix("lk_rt_").unwrap()).unwrap();
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Answer::Token(u32::from_be_bytes(bytes[33..37].try_into().unwrap()), hasher.finish())
}
