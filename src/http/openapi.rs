//! The API document: what poem-openapi derives from the handlers, made complete and true to what is served.

use std::collections::BTreeMap;

use poem_openapi::{LicenseObject, OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use super::{
    extract::json,
    oauth::{self, OAuthCode},
    problem::{self, ALWAYS, Code},
    types::MASK,
};

const DESCRIPTION: &str = "\
Sessions and authentication: sign users in, keep them signed in, sign them out on every node at once.

**Tokens.** Signing in gives an access token, a JWT (RFC 9068) that is valid for minutes and that other services can \
check by themselves with the keys of `/.well-known/jwks.json`, and a refresh token, which is opaque and gives the next pair. \
Once a session has ended, this service refuses both of its tokens; others that check access tokens by themselves know of it \
within milliseconds if they follow `/v1/revocations`, and otherwise accept one until it expires.

**Errors** are problems (RFC 9457) of the type `application/problem+json`. Their `code` is stable, and so what programs \
should look at. Beside those that an operation lists, every path answers `404 not_found` where there is nothing and `405 \
method_not_allowed` where the method isn't one of its own. What isn't HTTP (`400 malformed_request`) and headers \
that are too large (`431 headers_too_large`) are refused on every path. The endpoints under `/oauth2/` say what is wrong \
with an OAuth request as RFC 6749 has it (`error` and `error_description`, in 400 and 401), and everything else as a problem.

**Browsers.** Pages of the origins in `http.allowed_origins` may make the calls of those who sign in and read the answers, \
errors included (CORS); what is under `/.well-known/` may be read by any page.

**Fields.** JSON requests with fields that are not documented here are refused; forms may hold others, which are \
ignored. Answers may gain fields; ignore those that you don't know.";

/// The document, in its forms, and what follows from it.
pub struct Document {
    /// The document as JSON, indented.
    pub json: String,
    /// The document as YAML.
    pub yaml: String,
    /// The page that shows it.
    pub html: String,
}

impl Document {
    /// Makes the document of `service`.
    pub fn new<T: OpenApi>(service: &OpenApiService<T, ()>) -> Self {
        let derived = service.spec();
        let mut document: Value = serde_json::from_str(&derived).unwrap_or_default();
        complete(&mut document);
        let json = format!("{document:#}\n");
        // a page of over a megabyte: each step lets go of the one before
        let html = service.swagger_ui_html();
        let html = html.replace(&derived, &document.to_string().replace("</", "<\\/"));
        let html = html.replace("<title>Swagger UI</title>", "<title>Latchkey API</title>");
        Self { yaml: serde_yaml::to_string(&document).unwrap_or_default(), html, json }
    }
}

/// A service made of our APIs, with what the document says about itself.
pub fn service<T: OpenApi>(apis: T) -> OpenApiService<T, ()> {
    OpenApiService::new(apis, "Latchkey", env!("CARGO_PKG_VERSION"))
        .summary("Sessions and authentication.")
        .description(DESCRIPTION)
        .license(LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"))
}

fn complete(document: &mut Value) {
    // 3.0 knows neither of these, and relative is what is true wherever it is served
    if let Some(info) = document["info"].as_object_mut() {
        info.remove("summary");
    }
    document["servers"] = json!([{ "url": "/", "description": "This service" }]);
    let (mut requests, mut forms) = (Vec::new(), Vec::new());
    for item in values(&mut document["paths"]) {
        for operation in values(item) {
            complete_operation(operation);
            requests.extend(reference(&operation["requestBody"], json::CONTENT_TYPE));
            forms.extend(reference(&operation["requestBody"], oauth::FORM));
        }
    }
    let schemas = &mut document["components"]["schemas"];
    for name in &requests {
        // what `json.rs` refuses
        schemas[name]["additionalProperties"] = json!(false);
        // null stands for a field that is left out
        let required = schemas[name]["required"].clone();
        let required = |field: &str| required.as_array().is_some_and(|all| all.iter().any(|known| known == field));
        for (field, property) in schemas[name]["properties"].as_object_mut().into_iter().flatten() {
            if !required(field) && property["type"].is_string() {
                property["nullable"] = json!(true);
            }
        }
    }
    for name in requests.iter().chain(&forms) {
        for (field, value) in schemas[name]["example"].as_object_mut().into_iter().flatten() {
            if value == MASK {
                *value = json!(sample_secret(field));
            }
        }
    }
}

/// What stands for a secret in an example.
fn sample_secret(field: &str) -> &'static str {
    match field {
        "refresh_token" => "lk_rt_AQGTLu\u{2026}",
        "token" => "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9.\u{2026}.\u{2026}",
        "new_password" => "tidal engine verse marmalade",
        _ => "correct horse battery staple",
    }
}

fn values(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

fn reference(body: &Value, content_type: &str) -> Option<String> {
    let reference = body["content"][content_type]["schema"]["$ref"].as_str()?;
    reference.rsplit('/').next().map(str::to_owned)
}

fn complete_operation(operation: &mut Value) {
    if operation.get("security").is_none() {
        operation["security"] = json!([]);
    }
    // Every handler can fail for lack of what it needs, and those with a body for the body's sake.
    let health = operation["tags"] == json!(["Health"]);
    let mut codes: Vec<Code> = if health { Vec::new() } else { ALWAYS.to_vec() };
    if !operation["requestBody"].is_null() {
        codes.extend([Code::RequestTimeout, Code::PayloadTooLarge]);
    }
    // `problem.rs` has put the codes where the description goes, and so has `oauth/error.rs`
    for response in values(&mut operation["responses"]) {
        describe_oauth(response);
    }
    if let Some(responses) = operation["responses"].as_object() {
        let problems = responses.values().filter(|response| response["content"][problem::CONTENT_TYPE].is_object());
        let texts = problems.filter_map(|response| response["description"].as_str());
        codes.extend(texts.flat_map(|text| text.split(' ')).filter_map(code));
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for known in Code::ALL.iter().filter(|known| codes.contains(known)) {
        by_status.entry(known.status().as_u16()).or_default().push(*known);
    }
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = describe(&codes);
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses.values_mut() {
            response["headers"]["X-Request-Id"] = header("The id of the request, as in the service's log.", "string");
            if let Some(Value::Object(content)) = response.get_mut("content")
                && let Some(body) = content.remove("application/json; charset=utf-8")
            {
                content.insert("application/json".to_owned(), body);
            }
        }
    }
}

/// Makes sentences and examples of an error of OAuth 2.0.
fn describe_oauth(response: &mut Value) {
    let schema = format!("#/components/schemas/{}", oauth::SCHEMA);
    if response["content"]["application/json"]["schema"]["$ref"] != schema {
        return;
    }
    let names = response["description"].as_str().unwrap_or_default().to_owned();
    let codes: Vec<OAuthCode> =
        OAuthCode::ALL.into_iter().filter(|code| names.split(' ').any(|name| name == code.as_str())).collect();
    let texts: Vec<String> = codes.iter().map(|code| format!("{} (`{}`).", code.title(), code.as_str())).collect();
    let example = |code: &OAuthCode| {
        let value = json!({ "error": code.as_str(), "error_description": format!("{}.", code.title()) });
        (code.as_str().to_owned(), json!({ "value": value }))
    };
    let examples: Map<String, Value> = codes.iter().map(example).collect();
    response["description"] = json!(texts.join(" "));
    response["content"]["application/json"]["examples"] = Value::Object(examples);
    response["headers"]["Pragma"] = header("For caches of long ago.", "string");
    if codes.iter().any(|code| code.status() == 401) {
        response["headers"]["WWW-Authenticate"] = header("How to authenticate (RFC 7617).", "string");
    }
}

fn code(text: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.as_str() == text)
}

/// The answer of one status that stands for one or several errors.
fn describe(codes: &[Code]) -> Value {
    let status = codes.first().map(|code| code.status().as_u16()).unwrap_or_default();
    let texts: Vec<String> = codes.iter().map(|code| format!("{} (`{}`).", code.title(), code.as_str())).collect();
    let examples: Map<String, Value> =
        codes.iter().map(|code| (code.as_str().to_owned(), json!({ "value": example(*code) }))).collect();
    let mut headers = Map::new();
    if status == 401 {
        headers.insert("WWW-Authenticate".to_owned(), header("How to authenticate (RFC 6750).", "string"));
    }
    if status == 429 {
        let policy = "The limit that was reached: its name, how many requests in how many seconds.";
        let standing = "The same, how many requests are left (none), and in how many seconds there is one.";
        headers.insert("RateLimit-Policy".to_owned(), header(policy, "string"));
        headers.insert("RateLimit".to_owned(), header(standing, "string"));
    }
    if status == 503 || status == 429 {
        headers.insert("Retry-After".to_owned(), header("When to try again, in seconds.", "integer"));
    }
    json!({
        "description": texts.join(" "),
        "headers": headers,
        "content": { problem::CONTENT_TYPE: {
            "schema": { "$ref": "#/components/schemas/Problem" },
            "examples": examples,
        } },
    })
}

fn header(description: &str, kind: &str) -> Value {
    json!({ "description": description, "schema": { "type": kind } })
}

fn example(code: Code) -> Value {
    let mut example = json!({
        "type": format!("urn:latchkey:problem:{}", code.as_str()),
        "title": code.title(),
        "status": code.status().as_u16(),
        "detail": format!("{}.", code.title()),
        "code": code.as_str(),
        "request_id": "0b0f2d1e-6a41-4f57-9f0c-3d1a5c8e7b90",
    });
    let field = match code {
        Code::InvalidFields => Some(("identifier", "required", "`identifier` is required")),
        Code::WeakPassword => Some(("password", "password_common", "This password is among the most common ones.")),
        Code::EmailTaken => Some(("email", "taken", "an account with this e-mail address exists")),
        Code::UsernameTaken => Some(("username", "taken", "an account with this username exists")),
        _ => None,
    };
    if let Some((field, code, detail)) = field {
        example["errors"] = json!([{ "field": field, "code": code, "detail": detail }]);
    }
    example
}
