//! Tests the traces that an OpenTelemetry collector receives.

use std::sync::{Arc, Mutex};

use latchkey::{runtime::Cores, server};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind},
};
use poem::{EndpointExt, Route, handler, post, web::Data};
use prost::Message;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    binary::Service,
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// The bodies of the requests to the collector.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// The collector's handler.
#[handler]
fn receive(body: Vec<u8>, Data(received): Data<&Received>) {
    received.lock().unwrap().push(body);
}

/// The spans received so far. Asserts that each is of the service `latchkey-here`.
fn spans(received: &Received) -> Vec<Span> {
    let mut spans = Vec::new();
    for body in received.lock().unwrap().iter() {
        let export = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        for resource in export.resource_spans {
            let attributes = &resource.resource.as_ref().unwrap().attributes;
            let name = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            assert!(format!("{:?}", name.value).contains("latchkey-here"), "{resource:?}");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_collector_receives_spans_of_requests_and_no_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("telemetry.otlp_endpoint=http://{}", listener.local_addr().unwrap());
    let received = Received::default();
    // The collector runs on Latchkey's own server, which needs HTTP settings.
    let settings = TestCluster::new().config.http.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let routes = Route::new().at("/v1/traces", post(receive)).data(Arc::clone(&received));
    let collector = tokio::spawn(async move {
        server::run(routes, listener, &settings, &Cores::current_runtime(), async { drop(stopped.await) }).await
    });

    let folder = tempfile::tempdir().unwrap();
    let service_name = "telemetry.service_name=latchkey-here";
    // A node takes the trace of a caller from trusted proxies only.
    let arguments = ["serve", "--set", &endpoint, "--set", service_name, "--set", "http.trusted_proxies=127.0.0.1/32"];
    let service = Service::try_start_with(folder.path(), &arguments).unwrap();
    service.client.register("ada").await;
    // the login continues the trace of its caller
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let caller_span = "00f067aa0ba902b7";
    let body = json!({ "identifier": "ada", "password": PASSWORD });
    let login = service.client.request(Method::POST, "/v1/login").json(&body);
    // version 00; flags 01: the caller records the trace
    let login = login.header("traceparent", format!("00-{trace}-{caller_span}-01"));
    let tokens = Tokens::of(&service.client.send(login).await.expect(200));
    service.client.refresh(&tokens.refresh).await.expect(200);
    // A refresh token in the wrong place must not be exported either.
    service.client.get("/v1/me", &tokens.refresh).await.expect(401);
    // the queue is flushed before the process ends
    let (code, log) = service.end(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    drop(stop); // ends the collector
    collector.await.unwrap().unwrap();

    let spans = spans(&received);
    let span_named =
        |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    // the debug output of the value, which contains its text or number
    let attribute = |span: &Span, key: &str| {
        let found = span.attributes.iter().find(|attribute| attribute.key == key);
        format!("{:?}", found.unwrap_or_else(|| panic!("no {key} in {span:#?}")).value)
    };
    let login = span_named("POST login");
    assert_eq!(login.kind(), SpanKind::Server);
    assert_eq!(hex(&login.trace_id), trace);
    assert_eq!(hex(&login.parent_span_id), caller_span);
    assert!(attribute(login, "http.response.status_code").contains("200"));
    assert!(attribute(login, "http.route").contains("login"));
    let assert_child = |name: &str, request: &Span| {
        let found = spans.iter().any(|span| span.name == name && span.parent_span_id == request.span_id);
        assert!(found, "no {name} in {}: {spans:#?}", request.name);
    };
    assert_child("sql find_account", login);
    assert_child("check password", login);
    let script = spans.iter().find(|span| span.trace_id == login.trace_id && span.name == "redis script").unwrap();
    assert_eq!(script.kind(), SpanKind::Client);
    let refresh = span_named("POST refresh");
    assert_ne!(refresh.trace_id, login.trace_id);
    assert_child("redis script", refresh);
    assert!(attribute(span_named("GET me"), "http.response.status_code").contains("401"));

    // no span and no log line contains a secret (I6)
    let all = format!("{spans:?}{log}");
    for secret in [PASSWORD, &tokens.access, &tokens.refresh] {
        assert!(!all.contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_collector_is_logged_and_requests_succeed() {
    let folder = tempfile::tempdir().unwrap();
    // a port at which nothing listens
    let endpoint = format!("telemetry.otlp_endpoint=http://127.0.0.1:{}", crate::harness::guard::free_port());
    let service = Service::try_start_with(folder.path(), &["serve", "--set", &endpoint]).unwrap();
    service.client.register("ada").await;
    service.client.login("ada").await;
    let (code, log) = service.end(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    // The library logs the failed export itself.
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let failed_export = lines.iter().find(|line| line["name"] == "BatchSpanProcessor.ExportError");
    let failed_export = failed_export.unwrap_or_else(|| panic!("no failed export in {log}"));
    assert_eq!(failed_export["level"], "ERROR");
    assert_eq!(failed_export["target"], "opentelemetry_sdk");
    assert!(failed_export["error"].as_str().is_some_and(|error| !error.is_empty()), "{failed_export}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
