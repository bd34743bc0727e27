//! Logouts, revocations and password changes of a simulated user.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{
    super::{
        model::{Answer, Call, Interval, Op, UNKNOWN_NETWORK},
        record::Affected,
    },
    Delivery, REQUEST_TIMEOUT, Reply, Session, User, token_answer,
};

impl User<'_> {
    /// Signs out of a session, by its access token or its last refresh token.
    pub(super) async fn logout(&mut self, index: usize) {
        let (node, by_access_token) = (self.any_node(), self.random.percent(50));
        let session = &self.sessions[index];
        let (id, access) = (session.id.clone(), session.access.clone());
        let (_, last_refresh_token) = session.refresh.last().unwrap();
        let body = json!({ "refresh_token": last_refresh_token });
        let with_token =
            |request: RequestBuilder| if by_access_token { request.bearer_auth(access) } else { request.json(&body) };
        let (reply, span) = self.send(node, with_token, (Method::POST, "/v1/logout"), REQUEST_TIMEOUT).await;
        let answer = match reply {
            // a logout is also answered with 204 if the token has expired, or its session has ended before
            Reply::Answered(204, _) => Answer::Done,
            Reply::Answered(status, body) => return self.record_violation("a logout", status, &body),
            Reply::Unknown => Answer::Unknown,
            Reply::NotExecuted => return,
        };
        if answer != Answer::Unknown {
            self.mark_ended(index);
        }
        self.note(&id, Call::End, answer, span);
    }

    /// Presents a refresh token of a session for a refresh and for a logout at the same time.
    pub(super) async fn logout_during_refresh(&mut self, index: usize, token_index: usize) {
        let (generation, refresh_token) = self.sessions[index].refresh[token_index].clone();
        let id = self.sessions[index].id.clone();
        let (refresh_node, logout_node) = (self.any_node(), self.any_node());
        let body = json!({ "refresh_token": refresh_token });
        let ((refresh_reply, refresh_span), (logout_reply, logout_span)) = tokio::join!(
            self.present(refresh_node, &refresh_token, self.network, REQUEST_TIMEOUT),
            self.send(logout_node, |request| request.json(&body), (Method::POST, "/v1/logout"), REQUEST_TIMEOUT),
        );
        self.note_refresh(index, (generation, self.network), refresh_reply, refresh_span, Delivery::Arrives);
        match logout_reply {
            Reply::Answered(204, _) => {
                self.mark_ended(index);
                self.note(&id, Call::End, Answer::Done, logout_span);
            }
            Reply::Answered(status, body) => self.record_violation("a logout", status, &body),
            Reply::Unknown => self.note(&id, Call::End, Answer::Unknown, logout_span),
            Reply::NotExecuted => {}
        }
    }

    /// Ends a random session of the account with the access token of the session `caller`, which may be the same session.
    pub(super) async fn end_another(&mut self, caller: usize) {
        let ended = self.random.below(self.sessions.len());
        let (node, id) = (self.any_node(), self.sessions[ended].id.clone());
        let (caller_id, access) = (self.sessions[caller].id.clone(), self.sessions[caller].access.clone());
        let path = format!("/v1/sessions/{id}");
        let (reply, span) =
            self.send(node, |request| request.bearer_auth(access), (Method::DELETE, &path), REQUEST_TIMEOUT).await;
        match reply {
            Reply::Answered(204, _) => {
                // a caller that ends another session was live
                if ended != caller {
                    self.note(&caller_id, Call::Check, Answer::Live, span);
                }
                self.mark_ended(ended);
                self.note(&id, Call::End, Answer::Done, span);
            }
            // the calling session has ended
            Reply::Answered(401, _) => {
                self.mark_ended(caller);
                self.note(&caller_id, Call::Check, Answer::Gone, span);
            }
            // the other session had ended, and the calling one is live
            Reply::Answered(404, _) => {
                self.mark_ended(ended);
                self.note(&caller_id, Call::Check, Answer::Live, span);
                self.note(&id, Call::End, Answer::Gone, span);
            }
            Reply::Answered(status, body) => self.record_violation("ending a session", status, &body),
            Reply::Unknown => self.note(&id, Call::End, Answer::Unknown, span),
            Reply::NotExecuted => {}
        }
    }

    /// Records that all sessions were ended (`Answer::Done`) or may have been (`Answer::Unknown`), except the session `caller` if
    /// `keep_caller` is set.
    fn note_all_ended(&mut self, caller: usize, keep_caller: bool, answer: Answer, span: Interval) {
        let kept = keep_caller.then(|| self.sessions[caller].id.clone());
        if answer == Answer::Done {
            if let Some(kept) = &kept {
                self.note(kept, Call::Check, Answer::Live, span);
            }
            for index in (0..self.sessions.len()).filter(|index| !keep_caller || *index != caller) {
                self.mark_ended(index);
            }
        }
        self.record.record_call(
            self.number,
            Affected::All { except: kept },
            Op { call: Call::End, answer, network: 0, span },
        );
    }

    /// Ends all sessions of the account with the access token of the session `caller`, except that session if `keep_caller` is set.
    pub(super) async fn end_all(&mut self, caller: usize, keep_caller: bool) {
        let (node, access) = (self.any_node(), self.sessions[caller].access.clone());
        let path = if keep_caller { "/v1/sessions?keep_current=true" } else { "/v1/sessions" };
        let (reply, span) =
            self.send(node, |request| request.bearer_auth(access), (Method::DELETE, path), REQUEST_TIMEOUT).await;
        match reply {
            Reply::Answered(200, _) => self.note_all_ended(caller, keep_caller, Answer::Done, span),
            Reply::Answered(401, _) => {
                self.mark_ended(caller);
                let id = self.sessions[caller].id.clone();
                self.note(&id, Call::Check, Answer::Gone, span);
            }
            Reply::Answered(status, body) => self.record_violation("ending all sessions", status, &body),
            Reply::Unknown => self.note_all_ended(caller, keep_caller, Answer::Unknown, span),
            Reply::NotExecuted => {}
        }
    }

    /// Changes the password with the access token of the session `caller`. The change ends all sessions and starts a new one.
    pub(super) async fn change_password(&mut self, caller: usize) {
        // After an unanswered change, either of two passwords may be the current one: the user signs in instead.
        let [current] = &self.passwords[..] else { return self.login().await };
        let (current, node) = (current.clone(), self.any_node());
        self.changes += 1;
        // A password that no other user or change has. The multipliers make its numbers longer, and so the password stronger.
        let new = format!("{} lantern orchid {}", self.number * 7919, self.changes * 104_729);
        let body = json!({ "current_password": &current, "new_password": &new });
        let access = self.sessions[caller].access.clone();
        let with_body = |request: RequestBuilder| request.bearer_auth(access).json(&body);
        let (reply, span) = self.send(node, with_body, (Method::POST, "/v1/me/password"), REQUEST_TIMEOUT).await;
        match reply {
            Reply::Answered(200, body) => {
                let text = |field: &str| body[field].as_str().unwrap().to_owned();
                let (id, access, refresh) = (text("session_id"), text("access_token"), text("refresh_token"));
                for index in 0..self.sessions.len() {
                    self.mark_ended(index);
                }
                self.record.record_call(
                    self.number,
                    Affected::All { except: Some(id.clone()) },
                    Op { call: Call::End, answer: Answer::Done, network: 0, span },
                );
                // The new session has the network of the caller's session, which the model does not follow.
                self.note_from(UNKNOWN_NETWORK, &id, Call::Login, token_answer(&refresh), span);
                let generation = 0;
                self.sessions.push(Session { id, access, refresh: vec![(generation, refresh)], tries: None });
                self.passwords = vec![new];
                self.try_old_password(&current).await;
            }
            Reply::Answered(401, _) => {
                self.mark_ended(caller);
                let id = self.sessions[caller].id.clone();
                self.note(&id, Call::Check, Answer::Gone, span);
            }
            Reply::Answered(status, body) => self.record_violation("changing a password", status, &body),
            Reply::Unknown => {
                let keep_caller = false;
                self.note_all_ended(caller, keep_caller, Answer::Unknown, span);
                self.passwords.push(new);
            }
            Reply::NotExecuted => {}
        }
    }

    /// Signs in with a password that was changed, and records a violation if it still works.
    pub(super) async fn try_old_password(&mut self, old: &str) {
        let node = self.any_node();
        let body = json!({ "identifier": self.name, "password": old });
        let (reply, _) =
            self.send(node, |request| request.json(&body), (Method::POST, "/v1/login"), REQUEST_TIMEOUT).await;
        if let Reply::Answered(200, _) = reply {
            self.record.record_violation(format!("user {}: a password that was changed still works", self.number));
        }
    }
}
