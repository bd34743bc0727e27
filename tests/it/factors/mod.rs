//! Second factors: authenticator apps, recovery codes, challenges, throttling and policy. The codes come from oathtool, a program
//! that is independent of the service.

mod admin;
mod audit;
mod browser;
mod challenge;
mod document;
pub mod email_code;
mod i14_email_code;
mod policy;
mod recovery_codes;
pub mod remembered_devices;
mod throttling;
mod totp;

use std::{process::Command, time::Duration};

use latchkey::domain::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    accounts::{problem, signed_in},
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// An authenticator app.
#[derive(Clone, Debug)]
pub struct App {
    /// The secret in base32.
    pub secret: String,
}

impl App {
    /// The code that the app shows at the time of a clock.
    pub fn code(&self, clock: &Clock) -> String {
        self.code_after(clock, 0)
    }

    /// The code that the app shows `seconds` after the time of a clock.
    pub fn code_after(&self, clock: &Clock, seconds: i64) -> String {
        let further_steps = 0;
        self.codes_after(clock, seconds, further_steps).remove(0)
    }

    /// The codes that the app shows `seconds` after the time of a clock, and in the further time steps that follow.
    fn codes_after(&self, clock: &Clock, seconds: i64, further_steps: u64) -> Vec<String> {
        let (at, window) = (format!("@{}", clock.now().as_secs() + seconds), further_steps.to_string());
        let arguments = ["--totp", "--base32", "--now", &at, "--window", &window, &self.secret];
        let output = Command::new("oathtool").args(arguments).output();
        let output = output.expect("oathtool runs (.ci/install.sh test)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

/// An account with an authenticator app and recovery codes.
pub struct Enrolled {
    pub app: App,
    pub tokens: Tokens,
    pub recovery_codes: Vec<String>,
}

/// The time for which an authenticator app shows the same code.
pub const STEP: Duration = Duration::from_secs(30);

/// A cluster without the limits on mails, and without rate limits by IP address, since all clients of a test share one.
pub fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    crate::accounts::remove_mail_and_login_limits(&mut cluster);
    cluster.config.limits.factor_per_address = None;
    cluster
}

/// Starts the enrolment of an authenticator app.
pub async fn start_totp(node: &Client, tokens: &Tokens) -> App {
    let started = signed_in(node, tokens, Method::POST, "/v1/me/factors/totp", json!({})).await.expect(200);
    App { secret: started.text_of("secret") }
}

/// Confirms an authenticator app with a code.
pub async fn confirm_totp(node: &Client, tokens: &Tokens, code: &str) -> Answer {
    signed_in(node, tokens, Method::POST, "/v1/me/factors/totp/confirm", json!({ "code": code })).await
}

/// The recovery codes in an answer. Empty if it has no such field.
pub fn recovery_codes_of(answer: &Answer) -> Vec<String> {
    let codes = answer.json()["recovery_codes"].as_array().cloned().unwrap_or_default();
    codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

/// Adds an authenticator app to an account of [`Client::register`]. Then advances the clock, so that the app shows a code that was not
/// used.
pub async fn enrol(cluster: &TestCluster, node: &Client, name: &str) -> Enrolled {
    let tokens = node.login(name).await;
    let app = start_totp(node, &tokens).await;
    let answer = confirm_totp(node, &tokens, &app.code(&cluster.clock)).await.expect(200);
    cluster.advance(STEP);
    Enrolled { app, tokens: Tokens::of(&answer), recovery_codes: recovery_codes_of(&answer) }
}

/// Registers an account, and adds an authenticator app.
pub async fn account_with_app(cluster: &TestCluster, node: &Client, name: &str) -> Enrolled {
    node.register(name).await;
    enrol(cluster, node, name).await
}

/// Signs in by password, and returns the challenge for the second factor. Asserts that the account needs one.
pub async fn challenge(node: &Client, name: &str) -> String {
    expect_challenge(&node.try_login(name, PASSWORD).await)
}

/// Asserts that an answer requires a second factor, and returns its challenge.
#[track_caller]
pub fn expect_challenge(answer: &Answer) -> String {
    assert_eq!(answer.problem(), problem(403, "second_factor_required"), "{answer:?}");
    assert_no_credentials(answer);
    answer.text_of("challenge")
}

/// Asserts that an answer has no tokens, no session id, no device token and no cookie.
#[track_caller]
pub fn assert_no_credentials(answer: &Answer) {
    let body = answer.json();
    for field in ["access_token", "refresh_token", "session_id"] {
        assert!(body[field].is_null(), "{field}: {answer:?}");
    }
    for header in ["x-device-token", "set-cookie"] {
        assert!(!answer.headers.contains_key(header), "{header}: {answer:?}");
    }
}

/// Presents a code for a challenge.
pub async fn second_factor(node: &Client, challenge: &str, method: &str, code: &str) -> Answer {
    node.post("/v1/login/second-factor", factor_body(challenge, method, code)).await
}

/// The body of `POST /v1/login/second-factor`.
pub fn factor_body(challenge: &str, method: &str, code: &str) -> Value {
    json!({ "challenge": challenge, "method": method, "code": code })
}

/// A code of six digits that the app does not show within a minute of the clock's time.
pub fn wrong_code(app: &App, clock: &Clock) -> String {
    wrong_code_during(app, clock, Duration::ZERO)
}

/// A code of six digits that the app does not show during this period from the clock's time on, nor in a minute before or after it.
fn wrong_code_during(app: &App, clock: &Clock, period: Duration) -> String {
    let minute = Duration::from_mins(1);
    // one step more, because the period may begin and end within a step
    let further_steps = (period + 2 * minute).as_secs() / STEP.as_secs() + 1;
    let shown = app.codes_after(clock, -60, further_steps);
    let mut guesses = (0..).map(|number| format!("{number:06}"));
    guesses.find(|guess| !shown.contains(guess)).unwrap()
}

/// The claims of an access token.
pub fn claims(access_token: &str) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let payload = access_token.split('.').nth(1).unwrap();
    let json = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&json).unwrap()
}
