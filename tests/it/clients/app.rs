//! An app behind Latchkey, as a process of its own, and what its users see.

use reqwest::Method;
use serde_json::Value;

use super::service::Latchkey;
use crate::harness::{
    client::{Answer, Client},
    guard::{self, Guard, Spec},
    wait,
};

/// Running until dropped.
pub(super) struct App {
    client: Client,
    guard: Guard,
}

impl App {
    /// Starts it on a free port, by the command that is made for that port.
    pub(super) async fn start(latchkey: &Latchkey, command: impl Fn(u16) -> Vec<String>) -> Self {
        let settings: Vec<_> = latchkey.for_apps().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut last_error = String::new();
        for _ in 0..5 {
            let port = guard::free_port();
            let port_setting = format!("PORT={port}");
            let command = command(port);
            let words = ["env", &port_setting].into_iter().chain(settings.iter().map(String::as_str));
            // What it says when it is ready is its own matter: it is asked until it answers.
            let script = ["sh", "-c", r#"echo starting; exec "$@""#, "sh"];
            let words: Vec<&str> = words.chain(script).chain(command.iter().map(String::as_str)).collect();
            let spec = Spec { command: &words, stop: "TERM", folder: None, ready: "starting", unprivileged: false };
            match Guard::start(&spec) {
                Ok(guard) => {
                    let app = Self { client: Client::new(format!("http://127.0.0.1:{port}")), guard };
                    if app.answers().await {
                        return app;
                    }
                    last_error = app.guard.log();
                }
                Err(error) => last_error = error,
            }
        }
        panic!("{last_error}");
    }

    /// Waits until it answers; says no where it complains, of a port that is taken for instance.
    async fn answers(&self) -> bool {
        let complains = || self.guard.log().contains("rror");
        wait::until("the app answers or complains", || async { self.orders("").send().await.is_ok() || complains() })
            .await;
        !complains()
    }

    fn orders(&self, access: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(Method::GET, "/orders");
        if access.is_empty() { request } else { request.bearer_auth(access) }
    }

    async fn get(&self, access: &str) -> Answer {
        self.client.send(self.orders(access)).await
    }

    /// Whether such a caller is refused now.
    async fn refuses(&self, access: &str) -> bool {
        let answer = self.get(access).await;
        assert!([200, 401].contains(&answer.status.as_u16()), "{answer:?}");
        answer.status == 401 && answer.header("www-authenticate").starts_with("Bearer realm=\"latchkey\"")
    }

    /// Sign in, pass, sign out, be refused at the next request; and the same when an account's sessions all end.
    pub(super) async fn check(&self, latchkey: &Latchkey) -> Vec<Value> {
        let client = latchkey.client();
        let name = format!("u{}", self.client.base.rsplit(':').next().unwrap());
        let account = client.account(&name).await.text_of("id");
        assert!(self.refuses("").await);
        assert!(self.refuses("lk_rt_AQGiBpdTdXo_pdCBgb1WwyEm96RMSWJBWoWTPpJIMFD4").await);

        let tokens = client.login(&name).await;
        let mut seen = Vec::new();
        for _ in 0..20 {
            let answer = self.get(&tokens.access).await.expect(200).json();
            assert_eq!(answer["orders_of"], account.as_str());
            seen.push(answer);
        }
        assert!(self.refuses(&tokens.refresh).await);
        client.logout(&tokens.refresh).await.expect(204);
        self.comes_to_refuse(&tokens.access).await;

        let (other, own) = (client.login(&name).await, client.login(&name).await);
        self.get(&other.access).await.expect(200);
        client
            .change_password(&own.access, crate::harness::client::PASSWORD, "another tidal engine verse")
            .await
            .expect(204);
        self.comes_to_refuse(&other.access).await;
        self.get(&own.access).await.expect(200);
        seen
    }

    /// Within moments, by every worker that there may be.
    async fn comes_to_refuse(&self, access: &str) {
        wait::until("it is refused", || self.refuses(access)).await;
        wait::until("it is refused by all", || async {
            for _ in 0..20 {
                if !self.refuses(access).await {
                    return false;
                }
            }
            true
        })
        .await;
    }
}
