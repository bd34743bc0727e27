//! Tests of the OpenAPI document: the committed copy equals the served one, the service behaves as the document says, and
//! third-party tools accept the document. The page `/docs`, which shows the document, needs no internet.

use std::{collections::BTreeSet, fs, path::Path};

use base64::prelude::*;
use latchkey::http::openapi::Limits;
use reqwest::Method;
use serde_json::Value;

use crate::{
    harness::test_cluster::TestCluster,
    openapi_external::{dump_dom, parse_yaml, run_schemathesis, screenshot},
};

/// The committed copy of the document.
fn committed() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    fs::read_to_string(path).expect("openapi/openapi.json is missing: run `make openapi`")
}

/// The document that this build generates, with the default limits.
fn generated() -> Value {
    serde_json::from_str(&latchkey::http::document(&Limits::defaults()).json).unwrap()
}

#[tokio::test]
async fn served_document_equals_committed_copy() {
    let document = latchkey::http::document(&Limits::defaults());
    assert!(document.json == committed(), "openapi/openapi.json is out of date: run `make openapi`");
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    // The cluster has the default limits, as the committed copy.
    let json = node.get_anonymously("/openapi.json").await.expect(200);
    assert_eq!(json.header("content-type"), "application/json");
    assert!(json.text == document.json, "/openapi.json differs from the document");
    let yaml = node.get_anonymously("/openapi.yaml").await.expect(200);
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert_eq!(parse_yaml(&yaml.text), json.json());
}

#[test]
fn every_operation_and_field_is_described() {
    let document: Value = serde_json::from_str(&committed()).unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for field in ["summary", "description", "operationId"] {
                let text = operation[field].as_str();
                assert!(text.is_some_and(|text| !text.is_empty()), "{method} {path} has no {field}");
            }
            let is_new_id = ids.insert(operation["operationId"].as_str().unwrap());
            assert!(is_new_id, "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{path} {status}");
                assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            // A reference takes over the description of the schema that it names.
            let refers = property["$ref"].is_string() || property["allOf"].is_array();
            assert!(property["description"].is_string() || refers, "{name}.{field} has no description");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_difference_between_service_and_document() {
    let mut cluster = TestCluster::new();
    // Schemathesis uses the system's clock.
    cluster.clock = latchkey::domain::clock::Clock::System;
    let node = cluster.node().await;
    node.register("ada").await;
    let token = node.login("ada").await.access;
    let client = cluster.service_client("schemathesis").await;
    let basic = BASE64_STANDARD.encode(format!("{}:{}", client.id, client.secret));
    let base = node.base.clone();
    let run = move || run_schemathesis(&base, &format!("{base}/openapi.json"), &token, &basic);
    let tested = tokio::task::spawn_blocking(run).await.unwrap();
    let document = generated();
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|item| item.as_object().unwrap().values());
    println!("{tested} operations");
    assert_eq!(tested, operations.count(), "every operation gets requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn docs_page_shows_every_operation_without_internet() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let html = node.get_anonymously("/docs").await.expect(200);
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    for tag in ["<script", "<link", "<img", "<iframe"] {
        for (at, _) in html.text.match_indices(tag) {
            let element = html.text[at..].split('>').next().unwrap();
            assert!(!element.contains("src=\"http") && !element.contains("href=\"http"), "{element}");
            assert!(!element.contains("\"//"), "a URL of another host, without a scheme: {element}");
        }
    }
    for external_style in ["@import", "url(http"] {
        assert!(!html.text.contains(external_style), "{external_style}");
    }
    let url = format!("{}/docs", node.base);
    // The screenshot is for developers who want to see the page. No assertion reads it.
    let png = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs.png");
    let render = move || {
        let dom = dump_dom(&url);
        screenshot(&url, &png);
        dom
    };
    let dom = tokio::task::spawn_blocking(render).await.unwrap();
    let document: Value = serde_json::from_str(&committed()).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(dom.contains(&format!("data-path=\"{path}\"")), "{path} isn't shown");
    }
}

#[tokio::test]
async fn docs_page_is_compressed_cached_and_fit_for_phones() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let plain = node.get_anonymously("/docs").await.expect(200);
    assert!(plain.text.starts_with("<!doctype html>\n<html lang=\"en\">"), "{}", &plain.text[..200]);
    // The page's head is in its first 1,000 bytes.
    for element in ["<title>Latchkey API</title>", "name=\"viewport\"", "rel=\"icon\""] {
        assert!(plain.text[..1000].contains(element), "{element}");
    }
    for path in ["/docs", "/openapi.json", "/openapi.yaml"] {
        let plain = node.get_anonymously(path).await.expect(200);
        // The node doesn't support br.
        let request = || node.request(Method::GET, path).header("accept-encoding", "br, gzip;q=0.5");
        let compressed = request().send().await.unwrap();
        assert_eq!(compressed.headers()["content-encoding"], "gzip");
        assert_eq!(compressed.headers()["vary"], "Accept-Encoding");
        assert_eq!(compressed.headers()["cache-control"], "public, max-age=300");
        let etag = compressed.headers()["etag"].to_str().unwrap().to_owned();
        assert_ne!(plain.header("etag"), etag, "the compressed form has an ETag of its own");
        let body = compressed.bytes().await.unwrap();
        assert!(body.len() * 3 < plain.text.len(), "{path}: compressed to {} bytes, more than a third", body.len());
        let unchanged = node.send(request().header("if-none-match", &etag)).await.expect(304);
        assert_eq!(unchanged.text, "", "{path}");
        assert_eq!(unchanged.header("etag"), etag, "{path}");
        let changed = request().header("if-none-match", "\"other\"").send().await.unwrap();
        assert_eq!(changed.status(), 200, "{path}");
        assert_eq!(changed.headers()["etag"], etag, "{path}");
        assert!(changed.bytes().await.unwrap() == body, "{path}");
        // The weight 0 refuses an encoding. Parameter names are case-insensitive.
        let without_gzip = node.request(Method::GET, path).header("accept-encoding", "gzip;Q=0");
        assert_eq!(node.send(without_gzip).await.expect(200).header("content-encoding"), "", "{path}");
    }
}

#[tokio::test]
async fn docs_can_be_turned_off() {
    let mut cluster = TestCluster::new();
    cluster.config.http.docs = false;
    let node = cluster.node().await;
    for path in ["/", "/docs", "/openapi.json", "/openapi.yaml"] {
        assert_eq!(node.get_anonymously(path).await.expect(404).json()["detail"], "No such endpoint.", "{path}");
    }
    let metadata = node.get_anonymously("/.well-known/oauth-authorization-server").await.expect(200).json();
    assert!(metadata.get("service_documentation").is_none(), "{metadata}");
}

#[tokio::test]
async fn document_shows_configured_limits() {
    let mut cluster = TestCluster::new();
    cluster.config.password.min_length = 15;
    cluster.config.password.max_length = 200;
    cluster.config.session.max_per_account = 7;
    let node = cluster.node().await;
    let document = node.get_anonymously("/openapi.json").await.expect(200);
    for (schema, field) in [("RegisterRequest", "password"), ("ChangePasswordRequest", "new_password")] {
        let property = &document.json()["components"]["schemas"][schema]["properties"][field];
        assert_eq!(property["minLength"], 15);
        assert_eq!(property["maxLength"], 200);
        assert!(property["description"].as_str().unwrap().contains("15 to 200 characters"), "{property}");
    }
    assert!(document.text.contains("up to 7 sessions"));
    for placeholder in ["{password.", "{session."] {
        assert!(!document.text.contains(placeholder), "{placeholder}");
    }
}

/// Checks the properties of the document that code generators and readers rely on.
#[test]
fn document_is_fit_for_code_generators() {
    let document = generated();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            // Code generators make an extra type of a schema that is not a reference.
            for member in property["allOf"].as_array().into_iter().flatten() {
                assert!(member["$ref"].is_string(), "{name}.{field}: {property}");
            }
        }
    }
    for (schema, field) in [("Problem", "code"), ("FieldError", "code"), ("OAuthError", "error")] {
        let codes = schemas[schema]["properties"][field]["enum"].as_array().expect(schema);
        // Each of these lists has more than a handful of codes.
        assert!(codes.len() > 5, "{codes:?}");
        assert!(codes.iter().all(Value::is_string), "{codes:?}");
    }
    assert_eq!(
        schemas["LoginRequest"]["properties"]["transport"]["enum"],
        serde_json::json!(["bearer", "cookie", null])
    );
    // Only browsers send cookies, so a generated client must not take one as a credential.
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert!(schemes.values().all(|scheme| scheme["in"] != "cookie"), "{schemes:?}");
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    // Readers see the groups of operations in this order.
    assert_eq!(
        tags,
        ["Sign-in", "Account", "Second factors", "Passkeys", "Sessions", "OAuth", "Services", "Keys", "Health"]
    );
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{id}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                // Header names are written as `X-Request-Id`, not in upper case only.
                for name in response["headers"].as_object().unwrap().keys() {
                    assert!(name.bytes().any(|byte| byte.is_ascii_lowercase()), "{path} {status} {name}");
                }
                let examples = response["content"]["application/problem+json"]["examples"].as_object();
                for example in examples.into_iter().flat_map(|examples| examples.values()) {
                    assert_example_fits(operation, schemas, example);
                }
            }
        }
    }
}

/// Asserts that the errors of an example name fields of the operation's request.
fn assert_example_fits(operation: &Value, schemas: &serde_json::Map<String, Value>, example: &Value) {
    let reference = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    for error in example["value"]["errors"].as_array().into_iter().flatten() {
        let schema = reference.as_str().unwrap().rsplit('/').next().unwrap();
        let field = error["field"].as_str().unwrap();
        assert!(schemas[schema]["properties"][field].is_object(), "{}: {field}", operation["operationId"]);
    }
}
