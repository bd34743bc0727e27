//! Requests at the limits of their schemas, and random combinations of such requests: the service accepts exactly what the
//! OpenAPI document allows, for every operation.

use latchkey::{http::openapi::Limits, service::clients::NewClient};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    harness::{
        client::{Answer, PASSWORD},
        test_cluster::{Node, TestCluster},
    },
    history::random::Random,
};

/// The seed of the combinations, so that every run sends the same requests.
const SEED: u64 = 1;
/// Number of combinations for each operation.
const COMBINATIONS: usize = 30;

/// The error codes of fields that violate the schema. Other codes are about rules that a schema cannot express.
const SCHEMA_VIOLATIONS: [&str; 8] = [
    "required",
    "unknown_field",
    "unknown_value",
    "wrong_type",
    "too_short",
    "too_long",
    "password_too_short",
    "password_too_long",
];

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Operations whose fields depend on each other, or whose answer is a redirect or a page: `factors`, `step_up` and `oidc` test them.
const WITH_TESTS_OF_THEIR_OWN: [&str; 6] = [
    // the form is one of two ways to send the token
    "/oauth2/userinfo",
    // its errors are those of RFC 7591
    "/oauth2/register",
    "/oauth2/authorize",
    "/oauth2/logout",
    "/v1/login/second-factor",
    "/v1/me/reauthenticate",
];

/// Replaces the parameter of a path by an id that does not exist.
fn with_unknown_id(path: &str) -> String {
    path.replace("{id}", "0192f0c1-2345-7abc-8def-0123456789ab")
}

fn openapi_document() -> Value {
    serde_json::from_str(&latchkey::http::document(&Limits::defaults()).json).unwrap()
}

/// The operations whose body has this media type: method, path and schema.
fn operations_with(document: &Value, media_type: &str) -> Vec<(Method, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"][media_type]["schema"];
            let Some(reference) = schema["$ref"].as_str() else { continue };
            let schema = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
            found.push((method.to_uppercase().parse().unwrap(), path.clone(), schema.clone()));
        }
    }
    found
}

/// Whether an object satisfies a schema. Knows only the keywords that the document uses for requests.
fn is_valid(schema: &Value, object: &Map<String, Value>) -> bool {
    let required = schema["required"].as_array().into_iter().flatten();
    let has_all_required = required.map(|name| name.as_str().unwrap()).all(|name| object.contains_key(name));
    let allows_other_names = schema["additionalProperties"] != json!(false);
    has_all_required
        && object.iter().all(|(name, value)| match schema["properties"].get(name) {
            Some(property) => is_valid_property(property, value),
            None => allows_other_names,
        })
}

fn is_valid_property(property: &Value, value: &Value) -> bool {
    for keyword in property.as_object().unwrap().keys() {
        let known = ["type", "description", "format", "nullable", "enum", "minLength", "maxLength", "allOf"];
        assert!(known.contains(&keyword.as_str()), "this test does not know {keyword}");
    }
    if property["type"] == "object" && !value.is_null() {
        return value.is_object();
    }
    if let Some(members) = property["enum"].as_array() {
        return members.contains(value);
    }
    if value.is_null() {
        return property["nullable"] == json!(true);
    }
    let Some(text) = value.as_str() else { return property["type"] != "string" };
    let length = u64::try_from(text.chars().count()).unwrap();
    property["minLength"].as_u64().is_none_or(|least| length >= least)
        && property["maxLength"].as_u64().is_none_or(|most| length <= most)
}

/// A text of this many characters that passes the other rules for the field, as far as possible.
fn text(field: &str, length: usize) -> String {
    const DOMAIN: &str = "@example.com";
    let pattern = match field {
        // neither common nor guessable, whatever its length
        "password" | "new_password" => "xQ7!zK9w-tidal engine verse marmalade \u{e4}\u{f6}",
        "email" => "a",
        _ => "n",
    };
    let text: String = pattern.chars().cycle().take(length).collect();
    match length.checked_sub(DOMAIN.len()) {
        Some(local_length) if field == "email" && local_length > 0 => format!("{}{DOMAIN}", &text[..local_length]),
        _ => text,
    }
}

/// Objects at the edges of a schema: a valid object, and variants of it with one change each.
fn edge_cases(schema: &Value, valid: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let with = |field: &str, value: Value| {
        let mut object = valid.clone();
        object.insert(field.to_owned(), value);
        object
    };
    let mut all = vec![valid.clone(), with("surplus", json!("x")), with("", json!("x"))];
    for (field, property) in schema["properties"].as_object().unwrap() {
        let mut without = valid.clone();
        without.remove(field);
        all.push(without);
        for value in [Value::Null, json!(""), json!(7), json!(true), json!([]), json!({}), json!(["x"])] {
            all.push(with(field, value));
        }
        for member in property["enum"].as_array().into_iter().flatten() {
            all.push(with(field, member.clone()));
            all.push(with(field, json!(member.as_str().unwrap_or_default().to_uppercase())));
        }
        for limit in [&property["minLength"], &property["maxLength"]].into_iter().filter_map(Value::as_u64) {
            let limit = usize::try_from(limit).unwrap();
            for length in [limit.saturating_sub(1), limit, limit + 1] {
                all.push(with(field, json!(text(field, length))));
            }
        }
    }
    all
}

/// A valid body to which the changes of two or three edge cases were applied.
fn combination(
    random: &mut Random,
    edge_cases: &[Map<String, Value>],
    valid: &Map<String, Value>,
) -> Map<String, Value> {
    let mut body = valid.clone();
    let count = 2 + random.below(2);
    for _ in 0..count {
        let edge = random.pick(edge_cases);
        let changes = edge.iter().filter(|(field, value)| valid.get(*field) != Some(value));
        for (field, value) in changes {
            // a wrong current password is refused before the new one is read
            if field != "current_password" || !value.is_string() {
                body.insert(field.clone(), value.clone());
            }
        }
        // removes the field that the edge case lacks
        body.retain(|field, _| edge.contains_key(field) || !valid.contains_key(field));
    }
    body
}

/// A valid body of an operation. `number` makes accounts distinct.
fn valid_body(path: &str, number: usize) -> Map<String, Value> {
    let body = match path {
        "/v1/users" => {
            json!({ "email": format!("u{number}@example.com"), "username": format!("u{number}"), "password": PASSWORD })
        }
        "/v1/login" => json!({ "identifier": "ada", "password": PASSWORD, "transport": "bearer", "device": "x" }),
        "/v1/refresh" | "/v1/logout" => json!({ "refresh_token": "lk_rt_x" }),
        "/v1/me/password" => json!({ "current_password": PASSWORD, "new_password": format!("{PASSWORD} {number}") }),
        "/v1/me" => json!({
            "username": format!("n{number}"), "display_name": "Ada", "locale": "en", "time_zone": "UTC", "user_metadata": { "a": 1 },
        }),
        "/v1/me/email" => json!({ "email": format!("n{number}@example.com") }),
        "/v1/me/emails" => json!({ "email": format!("s{number}@example.com") }),
        "/v1/email/verification" | "/v1/login/code" => json!({ "email": "ada@example.com" }),
        "/v1/email/verify" => json!({
            "token": "x", "email": "ada@example.com", "code": "x", "password": PASSWORD, "new_password": PASSWORD,
        }),
        "/v1/email/undo" | "/v1/account/secure" => json!({ "token": "x" }),
        "/v1/password/forgot" => json!({ "identifier": "ada" }),
        "/v1/password/reset" => json!({ "token": "x", "identifier": "ada", "code": "x", "new_password": PASSWORD }),
        "/v1/login/code/verify" => json!({
            "request": "x", "token": "x", "email": "ada@example.com", "code": "x", "transport": "bearer", "device": "x",
        }),
        "/v1/login/enrolment/totp" => json!({ "challenge": "lk_ch_x", "label": "x" }),
        "/v1/login/enrolment/totp/confirm" => json!({ "challenge": "lk_ch_x", "code": "123456" }),
        "/v1/login/second-factor/options" | "/v1/login/second-factor/code" | "/v1/login/enrolment/passkey/options" => {
            json!({ "challenge": "lk_ch_x" })
        }
        "/v1/login/enrolment/passkey" => json!({ "challenge": "lk_ch_x", "credential": {}, "name": "x" }),
        "/v1/login/passkey" => json!({ "credential": {}, "transport": "bearer", "device": "x" }),
        "/v1/me/factors/totp" | "/v1/me/factors/totp/{id}" => json!({ "label": "x" }),
        "/v1/me/factors/totp/confirm" => json!({ "code": "123456" }),
        "/v1/me/passkeys" => json!({ "credential": {}, "name": "x" }),
        "/v1/me/passkeys/{id}" => json!({ "name": "x" }),
        "/v1/users/factors/reset" => json!({ "account": "ada" }),
        "/v1/users/emails/remove" => json!({ "account": "ada", "email": "ada@work.example" }),
        "/v1/users/{id}/app-metadata" => json!({ "app_metadata": { "a": 1 } }),
        "/v1/users/invite" => {
            json!({ "email": format!("i{number}@example.com"), "username": format!("i{number}"), "delivery": "mail" })
        }
        "/v1/users/reset" => json!({ "account": "ada", "delivery": "mail" }),
        "/oauth2/token" => json!({ "grant_type": "refresh_token", "refresh_token": "lk_rt_x" }),
        "/oauth2/introspect" | "/oauth2/revoke" => json!({ "token": "x" }),
        _ => panic!("this test has no valid body for {path}"),
    };
    body.as_object().unwrap().clone()
}

/// Whether the answer says that a JSON body violates the schema. Every error about an empty text counts as a violation, because the
/// document requires a length of at least 1.
fn reports_schema_violation(answer: &Answer, body: &Map<String, Value>) -> bool {
    if answer.status.is_success() {
        return false;
    }
    let (status, code) = answer.problem();
    if status != 422 {
        return code == "malformed_request";
    }
    let problem = answer.json();
    let mut errors = problem["errors"].as_array().into_iter().flatten();
    errors.any(|error| {
        let field = error["field"].as_str().unwrap();
        SCHEMA_VIOLATIONS.contains(&error["code"].as_str().unwrap()) || body.get(field) == Some(&json!(""))
    })
}

/// A cluster without rate limits, one node, and the account `ada`.
async fn cluster() -> (TestCluster, Node) {
    let mut cluster = TestCluster::new();
    let limits = &mut cluster.config.limits;
    (limits.registration_per_address, limits.registration_per_account) = (None, None);
    (limits.login_per_address, limits.login_backoff) = (None, None);
    (limits.password_change_per_address, limits.password_change_per_account) = (None, None);
    (limits.recovery_per_address, limits.mail_per_account) = (None, None);
    (limits.passkey_per_address, limits.factor_per_address) = (None, None);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("ada").await;
    (cluster, node)
}

#[tokio::test]
async fn json_bodies_are_accepted_exactly_if_schema_allows_them() {
    let (cluster, node) = cluster().await;
    let scopes = vec!["accounts:recover".to_owned(), "accounts:metadata".to_owned()];
    let client =
        cluster.service_client_with(NewClient { name: "crm".to_owned(), scopes, ..NewClient::default() }).await;
    let document = openapi_document();
    let mut operations = operations_with(&document, JSON);
    operations.retain(|(_, path, _)| !WITH_TESTS_OF_THEIR_OWN.contains(&path.as_str()));
    // a new operation needs a body in `valid_body`
    assert_eq!(operations.len(), 33, "{operations:?}");
    let stream = 0;
    let mut random = Random::new(SEED, stream);
    let mut number = 0;
    let (mut accepted, mut refused) = (0, 0);
    for (method, path, schema) in operations {
        let edge_count = edge_cases(&schema, &valid_body(&path, 0)).len();
        // first each edge case, then the combinations
        for case in 0..edge_count + COMBINATIONS {
            number += 1;
            let valid = valid_body(&path, number);
            let mut edge_cases = edge_cases(&schema, &valid);
            let body = if case < edge_count {
                edge_cases.swap_remove(case)
            } else {
                combination(&mut random, &edge_cases, &valid)
            };
            let mut request = node.request(method.clone(), &with_unknown_id(&path)).json(&body);
            // each request gets a new account, since some requests end the account's sessions or change its password
            if path.starts_with("/v1/me") {
                let name = format!("changes{number}");
                node.register(&name).await;
                request = request.bearer_auth(node.login(&name).await.access);
            }
            if path.starts_with("/v1/users/") {
                request = request.basic_auth(&client.id, Some(&client.secret));
            }
            let answer = node.send(request).await;
            assert!(!answer.status.is_server_error(), "{path} {body:?}: {answer:?}");
            let is_allowed = is_valid(&schema, &body);
            let is_accepted = !reports_schema_violation(&answer, &body);
            assert_eq!(is_accepted, is_allowed, "{path} {}: {}", Value::Object(body), answer.text);
            if is_allowed { accepted += 1 } else { refused += 1 }
        }
    }
    // Both outcomes were tested often.
    assert!(accepted > 50 && refused > 100, "{accepted} accepted, {refused} refused");
}

#[tokio::test]
async fn forms_are_accepted_exactly_if_schema_allows_them() {
    let (cluster, node) = cluster().await;
    let client = cluster.service_client("forms").await;
    let document = openapi_document();
    let mut operations = operations_with(&document, FORM);
    operations.retain(|(_, path, _)| !WITH_TESTS_OF_THEIR_OWN.contains(&path.as_str()));
    assert_eq!(operations.len(), 3, "{operations:?}");
    for (method, path, mut schema) in operations {
        // `oauth` tests the fields by which a client authenticates: they depend on each other
        for field in ["client_id", "client_secret", "client_assertion", "client_assertion_type"] {
            schema["properties"].as_object_mut().unwrap().remove(field);
        }
        let mut resolved = schema.clone();
        resolve_references(&mut resolved, &document);
        for body in edge_cases(&schema, &valid_body(&path, 0)) {
            // Form values are texts, and a parameter of a form has a name.
            if body.values().any(|value| !value.is_string()) || body.contains_key("") {
                continue;
            }
            // A schema cannot express which fields a grant requires.
            if body.get("grant_type") == Some(&json!("authorization_code")) {
                continue;
            }
            // A body without a refresh token has the grant type that requires one.
            if path == "/oauth2/token" && body.get("refresh_token").is_none_or(|token| token == "") {
                continue;
            }
            let mut request = node.request(method.clone(), &path).form(&body);
            if path == "/oauth2/introspect" {
                request = request.basic_auth(&client.id, Some(&client.secret));
            }
            let answer = node.send(request).await;
            let error = if answer.status.is_success() { Value::Null } else { answer.json()["error"].clone() };
            let refused = error == "invalid_request" || error == "unsupported_grant_type";
            assert_eq!(!refused, is_valid(&resolved, &body), "{path} {}: {}", Value::Object(body), answer.text);
        }
    }
}

/// Adds to each property that refers to an enum (`allOf`) the values of that enum.
fn resolve_references(schema: &mut Value, document: &Value) {
    for property in schema["properties"].as_object_mut().unwrap().values_mut() {
        if let Some(reference) = property["allOf"][0]["$ref"].as_str() {
            property["enum"] = document.pointer(reference.strip_prefix('#').unwrap()).unwrap()["enum"].clone();
        }
    }
}

#[tokio::test]
async fn missing_body_is_refused_exactly_if_document_requires_one() {
    let (_cluster, node) = cluster().await;
    let document = openapi_document();
    let mut operations = operations_with(&document, JSON);
    // its errors are those of RFC 7591
    operations.retain(|(_, path, _)| path != "/oauth2/register");
    for (method, path, _) in operations {
        let operation = &document["paths"][&path][method.as_str().to_lowercase()];
        let required = operation["requestBody"]["required"] == json!(true);
        let access = node.login("ada").await.access;
        let answer = node.send(node.request(method, &with_unknown_id(&path)).bearer_auth(access)).await;
        // A request without a body has no media type either.
        let refused = !answer.status.is_success() && answer.problem() == (415, "unsupported_media_type".to_owned());
        assert_eq!(refused, required, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn query_parameters_are_accepted_exactly_if_schema_allows_them() {
    let (_cluster, node) = cluster().await;
    let document = openapi_document();
    let paths = document["paths"].as_object().unwrap().iter();
    let tested_paths = paths.filter(|(path, _)| !WITH_TESTS_OF_THEIR_OWN.contains(&path.as_str()));
    let operations = tested_paths.flat_map(|(_, item)| item.as_object().unwrap().values());
    let parameters = operations.flat_map(|operation| operation["parameters"].as_array().into_iter().flatten());
    let queries = parameters.filter(|parameter| parameter["in"] == "query").map(|parameter| &parameter["name"]);
    assert_eq!(queries.collect::<Vec<_>>(), ["keep_current", "allow", "acr", "max_age"], "all have cases below");
    for (query, allowed) in [
        ("", true),
        ("?keep_current=true", true),
        ("?keep_current=false", true),
        ("?keep_current=TRUE", false),
        ("?keep_current=1", false),
        ("?keep_current=", false),
        ("?keep_current=true&keep_current=true", false),
    ] {
        let access = node.login("ada").await.access;
        let answer = node.delete(&format!("/v1/sessions{query}"), &access).await;
        assert_eq!(answer.status, if allowed { 200 } else { 400 }, "{query}: {answer:?}");
    }
    let access = node.login("ada").await.access;
    for (query, allowed) in [
        ("", true),
        ("?allow=clients", true),
        ("?allow=Clients", false),
        ("?allow=all", false),
        ("?acr=aal1", true),
        ("?acr=AAL1", false),
        ("?max_age=300", true),
        ("?max_age=x", false),
    ] {
        let answer = node.get(&format!("/v1/verify{query}"), &access).await;
        assert_eq!(answer.status, if allowed { 200 } else { 400 }, "{query}: {answer:?}");
    }
}
