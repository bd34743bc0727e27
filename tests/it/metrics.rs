//! The metrics endpoint, and the alerts and the dashboard built on it.

use std::{collections::BTreeSet, fs, io, process::Command, sync::Arc, time::Duration};

use latchkey::{
    domain::limit::LimitPolicy,
    http::{self, shutdown::Draining},
    runtime::Cores,
    server,
};
use poem::http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    docs::code_blocks,
    harness::{
        client::Client,
        guard,
        redis::Redis,
        test_cluster::{Node, TestCluster},
        wait,
    },
};

const INSTALL: &str = "this test needs promtool, which comes with Prometheus: `apt-get install prometheus` (Debian, Ubuntu); or \
                       run `make test`, which installs it";

/// A running metrics listener.
struct MetricsListener {
    client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl MetricsListener {
    async fn start(node: &Node, draining: Draining) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
        let endpoint = http::metrics::endpoint(Arc::clone(&node.state), draining);
        let settings = node.state.config.http.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            server::run(endpoint, listener, &settings, &Cores::current_runtime(), async { drop(stopped.await) }).await
        });
        Self { client, stop, task }
    }

    async fn stop(self) {
        // The listener ends when `stop` is dropped and the client has closed its connections.
        drop(self.client);
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }
}

/// Scrapes a node as Prometheus would. Asserts that the metrics listener serves no other paths.
async fn scrape(node: &Node) -> String {
    let listener = MetricsListener::start(node, Draining::default()).await;
    let client = &listener.client;
    let answer = client.send(client.request(Method::GET, "/metrics")).await.expect(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for path in ["/", "/v1/login", "/livez", "/metrics/x"] {
        assert_eq!(client.send(client.request(Method::GET, path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    listener.stop().await;
    answer.text
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_of_the_metrics_listener_names_problems_and_draining() {
    // `/readyz` warns of a Redis that does not persist every write
    let redis = Redis::start_with(&["--appendonly", "no"]);
    let cluster = TestCluster::with_redis(redis);
    let node = cluster.node().await;
    let draining = Draining::default();
    let listener = MetricsListener::start(&node, draining.clone()).await;
    let client = &listener.client;
    let answer = client.send(client.request(Method::GET, "/readyz")).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    let problems = &body["checks"][0]["problems"];
    assert!(problems[0].as_str().unwrap().contains("set `appendonly yes`"), "{problems}");
    let checks = json!([
        { "name": "redis", "status": "warning", "problems": problems },
        { "name": "database", "status": "ok", "problems": [] },
    ]);
    assert_eq!(body, json!({ "status": "warning", "checks": checks }));

    draining.0.cancel();
    let answer = client.send(client.request(Method::GET, "/readyz")).await.expect(503);
    assert_eq!(answer.json()["status"], "draining");
    assert_eq!(answer.json()["checks"][1], json!({ "name": "database", "status": "ok", "problems": [] }));
    listener.stop().await;
    node.stop().await;
}

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_of_sign_ins_have_every_documented_label_before_the_first_event() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let text = scrape(&node).await;
    node.stop().await;
    let document = read("docs/monitoring.md");
    let is_documented = |metric: &str, label: &str| {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{metric}` |"))).unwrap();
        row.contains(&format!("`{label}`"))
    };
    let login_outcomes = [
        "success",
        "invalid_credentials",
        "email_not_verified",
        "second_factor_required",
        "enrolment_required",
        "password_required",
        "limited",
        "unavailable",
        "failed",
    ];
    for outcome in login_outcomes {
        assert_eq!(value(&text, &format!("latchkey_logins_total{{outcome=\"{outcome}\"}}")), 0.0);
        assert!(is_documented("latchkey_logins_total", outcome), "{outcome}");
    }
    let metric = "latchkey_second_factors_total";
    let outcomes = ["success", "wrong_code", "invalid_challenge", "refused", "limited", "unavailable", "failed"];
    let methods = ["totp", "passkey", "recovery_code", "email_code"];
    let series = methods.into_iter().flat_map(|method| outcomes.map(|outcome| (method, outcome)));
    // a device that is not remembered is no failure, so this method has one outcome
    for (method, outcome) in series.chain([("remembered_device", "success")]) {
        assert_eq!(value(&text, &format!("{metric}{{method=\"{method}\",outcome=\"{outcome}\"}}")), 0.0);
        assert!(is_documented(metric, method) && is_documented(metric, outcome), "{method} {outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_the_session_limit_ends_counts_as_a_revocation() {
    let mut cluster = TestCluster::new();
    cluster.config.session.max_per_account = 1;
    let node = cluster.node().await;
    node.register("ada").await;
    for _ in 0..3 {
        node.login("ada").await;
    }
    let text = scrape(&node).await;
    assert_eq!(value(&text, "latchkey_revocations_total{reason=\"limit\"}"), 2.0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_count_logins_refreshes_and_requests() {
    let mut cluster = TestCluster::new();
    // so that a superseded refresh token counts as reused after the grace window
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    // the node must use its session cache, whose hits and misses are counted
    cluster.wait_for_peers().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let wrong = json!({ "identifier": "ada", "password": "wrong horse battery staple" });
    node.send(node.request(Method::POST, "/v1/login").json(&wrong)).await.expect(401);
    let first = node.login("ada").await;
    let second = node.login("ada").await;
    node.refresh(&first.refresh).await.expect(200);
    // a repeat within the grace window
    node.refresh(&first.refresh).await.expect(200);
    // after the grace window of 10 s
    cluster.advance(Duration::from_secs(11));
    node.refresh(&first.refresh).await.expect(401);
    for _ in 0..3 {
        let request = node.request(Method::POST, "/oauth2/introspect").form(&[("token", &second.access)]);
        node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
    }
    node.send(node.request(Method::GET, "/nowhere/at/all")).await.expect(404);
    let before = scrape(&node).await;
    node.logout(&second.refresh).await.expect(204);
    let after = scrape(&node).await;

    assert_eq!(value(&before, "latchkey_logins_total{outcome=\"success\"}"), 2.0);
    assert_eq!(value(&before, "latchkey_logins_total{outcome=\"invalid_credentials\"}"), 1.0);
    assert_eq!(value(&before, "latchkey_rotations_total{outcome=\"rotated\"}"), 1.0);
    assert_eq!(value(&before, "latchkey_rotations_total{outcome=\"repeated\"}"), 1.0);
    assert_eq!(value(&before, "latchkey_rotations_total{outcome=\"reused\"}"), 1.0);
    assert_eq!(value(&before, "latchkey_revocations_total{reason=\"reuse\"}"), 1.0);
    assert_eq!(value(&after, "latchkey_revocations_total{reason=\"logout\"}"), 1.0);
    // one registration and three sign-ins
    assert_eq!(value(&before, "latchkey_password_wait_seconds_count"), 4.0);
    assert_eq!(value(&before, "latchkey_password_queue_depth"), 0.0);
    // there is one session; the estimate is inexact because it samples a hundred keys
    assert!((0.0..10.0).contains(&value(&before, "latchkey_sessions_estimate")));
    for policy in LimitPolicy::ALL {
        assert_eq!(value(&before, &format!("latchkey_rate_limited_total{{policy=\"{policy}\"}}")), 0.0);
    }
    assert!(value(&before, "latchkey_cache_lookups_total{cache=\"tokens\",outcome=\"hit\"}") >= 2.0);
    assert!(value(&before, "latchkey_cache_lookups_total{cache=\"sessions\",outcome=\"miss\"}") >= 1.0);
    assert!(value(&before, "latchkey_redis_command_duration_seconds_count{command=\"rotate\"}") >= 3.0);
    assert!(value(&before, "latchkey_redis_connects_total") >= 1.0);
    assert_eq!(value(&before, "latchkey_peers"), 0.0);
    assert_eq!(value(&before, "latchkey_database_connections_max"), f64::from(cluster.config.database.max_connections));
    assert!(value(&before, "latchkey_database_connections") >= 1.0);
    assert!(value(&before, "latchkey_database_wait_seconds_count") >= 1.0);
    assert!(value(&before, "latchkey_database_lookup_duration_seconds_count") >= 2.0);
    assert_eq!(value(&before, "latchkey_database_errors_total"), 0.0);
    // the key signs from the first start; the test's clock was advanced by 11 s
    assert_eq!(value(&before, "latchkey_signing_key_age_seconds"), 11.0);
    let requests =
        |text: &str, labels: &str| value(text, &format!("latchkey_http_request_duration_seconds_count{{{labels}}}"));
    assert_eq!(requests(&before, "method=\"POST\",route=\"login\",status=\"200\""), 2.0);
    assert_eq!(requests(&before, "method=\"POST\",route=\"login\",status=\"401\""), 1.0);
    assert_eq!(requests(&before, "method=\"POST\",route=\"introspect\",status=\"200\""), 3.0);
    assert_eq!(requests(&before, "method=\"GET\",route=\"unknown\",status=\"404\""), 1.0);
    // I6: the metrics contain no name, id or token.
    for secret in [first.refresh.as_str(), &second.access, &second.session, &client.secret, "ada", "billing"] {
        assert!(!after.contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_show_peers_and_a_lost_feed() {
    let cluster = TestCluster::new();
    let (node, _peer) = (cluster.node().await, cluster.node().await);
    cluster.wait_for_peers().await;
    let text = scrape(&node).await;
    assert_eq!(value(&text, "latchkey_peers"), 1.0);
    assert!(text.contains("latchkey_build_info{version=\""));
    cluster.redis.signal(rustix::process::Signal::STOP);
    wait::until("the node loses the feed", || async { node.state.redis.revocation_log.synced_at().is_none() }).await;
    let text = scrape(&node).await;
    cluster.redis.signal(rustix::process::Signal::CONT);
    assert_eq!(value(&text, "latchkey_feed_synced"), 0.0);
    assert_eq!(value(&text, "latchkey_session_cache_valid"), 0.0);
    assert!(value(&text, "latchkey_feed_lag_seconds") > 0.0);
}

#[tokio::test]
async fn database_metrics_count_connections_in_use_and_errors() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let account = node.register("ada").await.json()["id"].as_str().unwrap().parse().unwrap();
    // the transaction keeps a connection
    let held = node.state.sql.change_account(account).await.unwrap();
    let text = scrape(&node).await;
    assert!(value(&text, "latchkey_database_connections_in_use") >= 1.0, "{text}");
    drop(held);
    node.state.sql.close().await;
    let ping = node.state.sql.ping().await;
    assert!(ping.is_err(), "the connections are closed");
    assert!(value(&scrape(&node).await, "latchkey_database_errors_total") >= 1.0);
}

#[tokio::test]
async fn metrics_path_on_the_api_listener_is_not_found() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.send(node.request(Method::GET, "/metrics")).await.expect(404);
}

fn repository_path(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(repository_path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The program `promtool` of Prometheus.
fn promtool() -> Command {
    Command::new(guard::find_programs(&["promtool"], []).expect(INSTALL).join("promtool"))
}

/// Runs a program, and asserts that it succeeds. Returns what it prints.
fn run_ok(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let output = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ran.status.success(), "{output}");
    output
}

/// The metrics named in a text, without the suffixes of histograms.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("latchkey_") || word.starts_with("process_"));
    let suffixes = ["_bucket", "_count", "_sum"];
    let names =
        names.map(|name| suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned());
    names.collect()
}

#[test]
fn printed_configuration_of_prometheus_is_valid() {
    let printed = code_blocks("docs/monitoring.md", "yaml").remove(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    fs::write(&file, printed).unwrap();
    // the configuration names this file
    fs::copy(repository_path("monitoring/alerts.yml"), folder.path().join("alerts.yml")).unwrap();
    let output = run_ok(promtool().args(["check", "config"]).arg(&file));
    assert!(output.contains("1 rule files found"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_dashboard_and_docs_name_only_existing_metrics() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    node.logout(&tokens.refresh).await.expect(204);
    let text = scrape(&node).await;
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let metrics: BTreeSet<String> = helps.filter_map(|help| help.split(' ').next()).map(str::to_owned).collect();
    let served: BTreeSet<_> = metrics.iter().filter(|name| name.starts_with("latchkey_")).cloned().collect();

    let folder = tempfile::tempdir().unwrap();
    let scraped = folder.path().join("metrics");
    fs::write(&scraped, &text).unwrap();
    run_ok(promtool().args(["check", "metrics"]).stdin(fs::File::open(&scraped).unwrap()));
    run_ok(promtool().args(["check", "rules"]).arg(repository_path("monitoring/alerts.yml")));
    run_ok(promtool().args(["test", "rules"]).arg(repository_path("monitoring/alerts_test.yml")));

    let dashboard: Value = serde_json::from_str(&read("monitoring/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = queries.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 20, "the dashboard has queries");
    // one rule per query, so that promtool parses it
    let rules: String = queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
            format!("      - record: panel:{number}\n        expr: {}\n", Value::from(query))
        })
        .collect();
    let file = folder.path().join("panels.yml");
    fs::write(&file, format!("groups:\n  - name: panels\n    rules:\n{rules}")).unwrap();
    run_ok(promtool().args(["check", "rules"]).arg(&file));

    let alerts = read("monitoring/alerts.yml");
    let queried = metric_names(&queries.join(" "));
    for (what, names) in [("an alert", metric_names(&alerts)), ("the dashboard", queried)] {
        let unknown: Vec<_> = names.difference(&metrics).collect();
        assert!(unknown.is_empty(), "{what} names {unknown:?}, which do not exist");
    }
    let documented: BTreeSet<_> =
        metric_names(&read("docs/monitoring.md")).into_iter().filter(|name| name.starts_with("latchkey_")).collect();
    assert_eq!(documented, served, "docs/monitoring.md documents every metric and no other");
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(read("docs/monitoring.md").contains(alert), "docs/monitoring.md documents {alert}");
    }
}
