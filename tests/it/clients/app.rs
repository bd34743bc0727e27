//! Starts an app as a separate process, and checks how it verifies tokens. All apps have the same endpoints.

use futures_util::{SinkExt, StreamExt};
use latchkey::domain::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use super::service::ServiceProcess;
use crate::{
    accounts::signed_in,
    factors,
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        guard::{self, Guard, Spec},
        wait,
    },
};

/// A shell script that runs a command. On SIGTERM the script ends the whole process group, since npm and uvicorn start further processes.
/// The signal ends the first `wait`; the second waits until the command has ended.
pub(super) const RUN_GROUP: &str = r#"
echo starting
"$@" &
trap "trap '' TERM; kill -s TERM 0" TERM
wait
wait
"#;

/// Enough requests to reach each worker of an app.
const REQUESTS_TO_ALL_WORKERS: usize = 20;

/// A running app. Ends when dropped.
pub(super) struct App {
    client: Client,
    guard: Guard,
}

impl App {
    /// Starts an app on a free port, with these environment variables and `PORT`. `command` returns the command for a port.
    pub(super) async fn start(environment: &[(String, String)], command: impl Fn(u16) -> Vec<String>) -> Self {
        let variables: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut last_error = String::new();
        // another process may take the port first: retry with another port
        for _ in 0..5 {
            let port = guard::free_port();
            let port_variable = format!("PORT={port}");
            let app_command = command(port);
            let mut words: Vec<&str> = vec!["env", &port_variable];
            words.extend(variables.iter().map(String::as_str));
            // The last `sh` is `$0` of the script; the words after it are `$@`.
            words.extend(["sh", "-c", RUN_GROUP, "sh"]);
            words.extend(app_command.iter().map(String::as_str));
            // Apps announce that they are ready in different ways, or not at all: `wait_for_response` polls.
            let spec = Spec { command: &words, stop: "TERM", folder: None, ready: "starting", unprivileged: false };
            match Guard::start(&spec) {
                Ok(guard) => {
                    let app = Self { client: Client::new(format!("http://127.0.0.1:{port}")), guard };
                    if app.wait_for_response().await {
                        return app;
                    }
                    last_error = app.guard.log();
                }
                Err(error) => last_error = error,
            }
        }
        panic!("{last_error}");
    }

    /// The host and the port.
    pub(super) fn address(&self) -> String {
        self.client.base.trim_start_matches("http://").to_owned()
    }

    /// A username that the checks of no other app use: several apps use the same service, at different ports.
    fn unique_name(&self, prefix: &str) -> String {
        let (_, port) = self.client.base.rsplit_once(':').unwrap();
        format!("{prefix}{port}")
    }

    /// Waits for the first response. Returns false if the app logs an error, for instance because the port is taken.
    async fn wait_for_response(&self) -> bool {
        // Matches `error` and `Error`.
        let failed = || self.guard.log().contains("rror");
        wait::until("the app answers or fails", || async {
            self.orders_request(None).send().await.is_ok() || failed()
        })
        .await;
        !failed()
    }

    fn orders_request(&self, access: Option<&str>) -> reqwest::RequestBuilder {
        let request = self.client.request(Method::GET, "/orders");
        match access {
            Some(access) => request.bearer_auth(access),
            None => request,
        }
    }

    async fn get_orders(&self, access: &str) -> Answer {
        self.client.send(self.orders_request(Some(access))).await
    }

    /// Whether the app refuses the token.
    async fn refuses(&self, access: &str) -> bool {
        is_refusal(&self.get_orders(access).await)
    }

    /// Checks that the app accepts signed-in users only, and refuses a token after a logout and a password change. Returns the app's
    /// [`REQUESTS_TO_ALL_WORKERS`] answers to one user.
    pub(super) async fn check(&self, service: &ServiceProcess) -> Vec<Value> {
        let client = service.client();
        let name = self.unique_name("u");
        let account = client.register(&name).await.text_of("id");
        let without_token = self.client.send(self.orders_request(None)).await;
        assert!(is_refusal(&without_token), "{without_token:?}");
        let forged_refresh_token = "lk_rt_AQGiBpdTdXo_pdCBgb1WwyEm96RMSWJBWoWTPpJIMFD4";
        assert!(self.refuses(forged_refresh_token).await);

        // a logout
        let tokens = client.login(&name).await;
        let mut answers = Vec::new();
        for _ in 0..REQUESTS_TO_ALL_WORKERS {
            let answer = self.get_orders(&tokens.access).await.expect(200).json();
            assert_eq!(answer["orders_of"], account.as_str());
            answers.push(answer);
        }
        assert!(self.refuses(&tokens.refresh).await, "a refresh token is no access token");
        client.logout(&tokens.refresh).await.expect(204);
        self.wait_until_refused(&tokens.access).await;

        // a password change
        let other = client.login(&name).await;
        let own = client.login(&name).await;
        self.get_orders(&other.access).await.expect(200);
        let changed = client.change_password(&own.access, PASSWORD, "another tidal engine verse").await.expect(200);
        self.wait_until_refused(&other.access).await;
        self.wait_until_refused(&own.access).await;
        self.get_orders(&Tokens::of(&changed).access).await.expect(200);
        answers
    }

    /// Checks that the app's `/chat` sends messages back, refuses invalid tokens, and closes when its user signs out.
    pub(super) async fn check_chat(&self, service: &ServiceProcess) {
        let client = service.client();
        let name = self.unique_name("c");
        let account = client.register(&name).await.text_of("id");
        let tokens = client.login(&name).await;
        let dial = |token: &str| {
            let mut request = format!("ws://{}/chat", self.address()).into_client_request().unwrap();
            let authorization = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", authorization);
            connect_async(request)
        };
        match dial("not-an-access-token").await {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 401),
            outcome => panic!("{outcome:?}"),
        }
        let (mut chat, _) = dial(&tokens.access).await.unwrap();
        chat.send("hello".into()).await.unwrap();
        assert_eq!(chat.next().await.unwrap().unwrap().into_text().unwrap().as_str(), format!("{account}: hello"));
        client.logout(&tokens.refresh).await.expect(204);
        let Message::Close(Some(frame)) = chat.next().await.unwrap().unwrap() else { panic!("the chat did not close") };
        // 1008: policy violation (RFC 6455)
        assert_eq!(u16::from(frame.code), 1008);
        assert_eq!(frame.reason.as_str(), "session_revoked");
    }

    /// Checks that `DELETE /orders` needs two factors within the last 300 seconds: a user who has signed in with one factor gets the challenge
    /// of RFC 9470, and passes after the enrolment of a second factor and after a step-up.
    pub(super) async fn check_step_up(&self, service: &ServiceProcess) {
        let client = service.client();
        let name = self.unique_name("s");
        client.register(&name).await;
        let weak = client.login(&name).await;
        let delete = async |access: &str| self.client.delete("/orders", access).await;
        let refused = delete(&weak.access).await.expect(401);
        let challenge = refused.header("www-authenticate");
        let expected = "error=\"insufficient_user_authentication\", acr_values=\"aal2\", max_age=\"300\"";
        assert!(challenge.starts_with("Bearer realm=\"latchkey\"") && challenge.ends_with(expected), "{challenge}");
        let authenticator = factors::start_totp(client, &weak).await;
        let code = authenticator.code(&Clock::System);
        let enrolled = factors::confirm_totp(client, &weak, &code).await.expect(200);
        // the new session has proved both factors
        let strong = Tokens::of(&enrolled);
        delete(&strong.access).await.expect(200);
        // a code works once: the step-up uses the next one, 30 s later
        let next_code = authenticator.code_after(&Clock::System, 30);
        let body = json!({ "method": "totp", "code": next_code });
        let stepped_up = signed_in(client, &strong, Method::POST, "/v1/me/reauthenticate", body).await.expect(200);
        delete(&stepped_up.text_of("access_token")).await.expect(200);
    }

    /// Waits until every worker of the app refuses the token.
    async fn wait_until_refused(&self, access: &str) {
        // Two waits, so that a failure says whether any worker has learned of the end.
        wait::until("a worker refuses the token", || self.refuses(access)).await;
        wait::until("all workers refuse the token", || async {
            for _ in 0..REQUESTS_TO_ALL_WORKERS {
                if !self.refuses(access).await {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// Whether an app answered 401 with a challenge. Panics on any status but 200 and 401.
fn is_refusal(answer: &Answer) -> bool {
    assert!([200, 401].contains(&answer.status.as_u16()), "{answer:?}");
    answer.status == 401 && answer.header("www-authenticate").starts_with("Bearer realm=\"latchkey\"")
}
