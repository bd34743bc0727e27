//! Completes the document that poem-openapi derives: errors, examples, limits, and details that code generators need.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Limits;
use crate::http::{
    api::Tag,
    extract::json as json_body,
    oauth::{self, OAuthCode},
    problem::{self, ALWAYS, Code, FieldCode},
    types::MASK,
};

/// Properties that hold a new password, whose length the policy limits.
const NEW_PASSWORDS: [(&str, &str); 4] = [
    ("RegisterRequest", "password"),
    ("ChangePasswordRequest", "new_password"),
    ("ResetPasswordRequest", "new_password"),
    ("VerifyEmailRequest", "new_password"),
];

/// Completes the document.
pub(super) fn complete(document: &mut Value, limits: &Limits) {
    // OpenAPI 3.0 has no `info.summary`.
    if let Some(info) = document["info"].as_object_mut() {
        info.remove("summary");
    }
    // a relative URL is right wherever the document is served
    document["servers"] = json!([{ "url": "/", "description": "This service" }]);
    order_tags(document);
    fill_in(document, limits);
    let (requests, forms) = request_schemas(document);
    complete_schemas(&mut document["components"]["schemas"], &requests, &forms, limits);
    let schemas = document["components"]["schemas"].clone();
    describe_queries(document, &schemas);
    for operation in operations(document) {
        complete_operation(operation, &schemas);
    }
}

/// Lists the query parameters of GET operations that take the parameters of a form in their query.
fn describe_queries(document: &mut Value, schemas: &Value) {
    for (path, form) in oauth::QUERY_FORMS {
        let properties = schemas[form]["properties"].as_object();
        let parameters = properties.into_iter().flatten().map(|(name, property)| {
            json!({
                "name": name,
                "in": "query",
                "required": false,
                "description": property["description"],
                "schema": { "type": "string" },
            })
        });
        document["paths"][path]["get"]["parameters"] = parameters.collect();
    }
}

/// Puts the tags in the order in which readers need them.
fn order_tags(document: &mut Value) {
    let position = |tag: &Value| Tag::ORDER.iter().position(|name| tag["name"] == *name).unwrap_or(usize::MAX);
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.sort_by_key(position);
    }
}

/// Replaces the placeholders of settings in all texts.
fn fill_in(value: &mut Value, limits: &Limits) {
    match value {
        Value::String(text) if text.contains('{') => *text = limits.fill_in(text),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, limits)),
        Value::Object(map) => map.values_mut().for_each(|value| fill_in(value, limits)),
        _ => {}
    }
}

/// The values of all members of an object.
fn values(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

/// The members of the object that is the member `name` of `value`.
fn members<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = (&'a String, &'a mut Value)> {
    value.get_mut(name).and_then(Value::as_object_mut).into_iter().flatten()
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    values(&mut document["paths"]).flat_map(values)
}

/// The names of the schemas of JSON bodies and of forms.
fn request_schemas(document: &mut Value) -> (Vec<String>, Vec<String>) {
    let (mut requests, mut forms) = (Vec::new(), Vec::new());
    for operation in operations(document) {
        requests.extend(schema_name(&operation["requestBody"], json_body::CONTENT_TYPE));
        forms.extend(schema_name(&operation["requestBody"], oauth::FORM));
    }
    (requests, forms)
}

/// The name of the schema to which a request body of this content type refers.
fn schema_name(body: &Value, content_type: &str) -> Option<String> {
    let reference = body["content"][content_type]["schema"]["$ref"].as_str()?;
    reference.rsplit('/').next().map(str::to_owned)
}

/// Completes the schemas: null, required form fields, examples, the lists of error codes, and the lengths of passwords.
fn complete_schemas(schemas: &mut Value, requests: &[String], forms: &[String], limits: &Limits) {
    let definitions = schemas.clone();
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        let is_request = requests.contains(name);
        let required = schema["required"].clone();
        let is_required = |field: &str| required.as_array().is_some_and(|all| all.iter().any(|name| name == field));
        for (field, property) in members(schema, "properties") {
            move_description_out(property);
            // `extract/json.rs` accepts null for an absent field
            if is_request && !is_required(field) {
                make_nullable(property, &definitions);
            }
            // an empty form field counts as an absent one
            if forms.contains(name) && is_required(field) && property["type"] == "string" {
                property["minLength"] = json!(1);
            }
        }
        if is_request {
            schema["additionalProperties"] = json!(false);
        }
        if is_request || forms.contains(name) {
            for (field, value) in members(schema, "example") {
                if value == MASK {
                    *value = json!(sample_secret(field));
                }
            }
        }
    }
    let problem_codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    schemas["Problem"]["properties"]["code"]["enum"] = json!(problem_codes);
    let field_codes: Vec<&str> = FieldCode::ALL.iter().map(|code| code.as_str()).collect();
    schemas["FieldError"]["properties"]["code"]["enum"] = json!(field_codes);
    let oauth_codes: Vec<&str> = OAuthCode::ALL.iter().map(|code| code.as_str()).collect();
    schemas[oauth::ERROR_SCHEMA]["properties"]["error"]["enum"] = json!(oauth_codes);
    for (name, field) in NEW_PASSWORDS {
        let property = &mut schemas[name]["properties"][field];
        property["minLength"] = json!(limits.password_min.parse::<u64>().unwrap_or_default());
        property["maxLength"] = json!(limits.password_max.parse::<u64>().unwrap_or_default());
    }
    // the enums that `make_nullable` may have copied
    remove_unused(schemas, &["Transport", "Delivery"]);
}

/// Rewrites `allOf: [reference, description]` as `allOf: [reference]` beside a description: some generators read each
/// member of `allOf` as an object type.
fn move_description_out(property: &mut Value) {
    let Some(members) = property["allOf"].as_array() else { return };
    let (references, others): (Vec<_>, Vec<_>) =
        members.iter().cloned().partition(|member| member.get("$ref").is_some());
    for member in others.iter().filter_map(Value::as_object) {
        for (name, value) in member.clone() {
            property[name] = value;
        }
    }
    property["allOf"] = Value::Array(references);
}

/// Allows null. `nullable` only has an effect beside `type`, so a referenced enum is copied.
fn make_nullable(property: &mut Value, definitions: &Value) {
    let referenced = property["allOf"][0]["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    if let Some(definition) = referenced.map(|name| definitions[name].clone()) {
        if let Some(property) = property.as_object_mut() {
            property.remove("allOf");
        }
        property["type"] = definition["type"].clone();
        let mut members = definition["enum"].as_array().cloned().unwrap_or_default();
        members.push(Value::Null);
        property["enum"] = Value::Array(members);
    }
    if property["type"].is_string() {
        property["nullable"] = json!(true);
    }
}

/// Removes schemas that were copied to where they were referenced.
fn remove_unused(schemas: &mut Value, names: &[&str]) {
    for name in names {
        let reference = format!("#/components/schemas/{name}");
        let is_used = schemas.to_string().contains(&reference);
        if !is_used && let Some(schemas) = schemas.as_object_mut() {
            schemas.remove(*name);
        }
    }
}

/// An example value for a secret.
fn sample_secret(field: &str) -> &'static str {
    match field {
        "refresh_token" => "lk_rt_AQGTLu\u{2026}",
        "code" => "K7QW-2M9X",
        "challenge" => "lk_ch_AWYBkz\u{2026}",
        "request" => "lk_lr_6Zb\u{2026}",
        "token" => "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9.\u{2026}.\u{2026}",
        "new_password" => "tidal engine verse marmalade",
        _ => "velvet otter quarry lantern",
    }
}

/// Completes an operation: its errors with examples, and the headers and content types of its responses.
fn complete_operation(operation: &mut Value, schemas: &Value) {
    // an empty list states that the operation needs no authentication
    if operation.get("security").is_none() {
        operation["security"] = json!([]);
    }
    // a handler can fail for lack of Redis or the database (unless it is a health check), or because of the body that it reads
    let is_health_check = operation["tags"] == json!(["Health"]);
    let mut codes: Vec<Code> = if is_health_check { Vec::new() } else { ALWAYS.to_vec() };
    if !operation["requestBody"].is_null() {
        codes.extend([Code::RequestTimeout, Code::PayloadTooLarge]);
    }
    // `problem/failed.rs` and `oauth/error.rs` write the codes of an operation into the descriptions of its responses
    for response in values(&mut operation["responses"]) {
        describe_oauth_errors(response);
    }
    if let Some(responses) = operation["responses"].as_object() {
        let problems = responses.values().filter(|response| response["content"][problem::CONTENT_TYPE].is_object());
        let texts = problems.filter_map(|response| response["description"].as_str());
        codes.extend(texts.flat_map(|text| text.split(' ')).filter_map(parse_code));
    }
    let request = schema_name(&operation["requestBody"], json_body::CONTENT_TYPE).map(|name| &schemas[name]);
    // `codes` can name a code twice, so `Code::ALL` is filtered
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in Code::ALL.iter().filter(|code| codes.contains(code)) {
        by_status.entry(code.status().as_u16()).or_default().push(*code);
    }
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = problem_response(&codes, request);
    }
    for response in values(&mut operation["responses"]) {
        response["headers"]["X-Request-Id"] = header("The id of the request, as in the service's log.", "string");
        capitalize_headers(response);
        if let Some(Value::Object(content)) = response.get_mut("content")
            && let Some(body) = content.remove("application/json; charset=utf-8")
        {
            content.insert("application/json".to_owned(), body);
        }
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if parameter["in"] == "header"
            && let Some(name) = parameter["name"].as_str()
        {
            parameter["name"] = json!(capitalized(name));
        }
    }
}

/// Rewrites the header names of a response, which poem-openapi writes in capitals.
fn capitalize_headers(response: &mut Value) {
    if let Some(headers) = response["headers"].as_object_mut() {
        *headers = std::mem::take(headers).into_iter().map(|(name, value)| (capitalized(&name), value)).collect();
    }
}

/// A header name as RFCs write it: `Set-Cookie`, `WWW-Authenticate`, `Last-Event-ID`. `X-Request-Id` is written as Latchkey
/// sends it.
fn capitalized(name: &str) -> String {
    let capitalize = |part: &str| match part.to_ascii_uppercase().as_str() {
        upper @ ("WWW" | "ID") if !name.eq_ignore_ascii_case("x-request-id") => upper.to_owned(),
        "RATELIMIT" => "RateLimit".to_owned(),
        upper => {
            // an empty part has no first character
            let (first, rest) = upper.split_at(upper.len().min(1));
            format!("{first}{}", rest.to_ascii_lowercase())
        }
    };
    name.split('-').map(capitalize).collect::<Vec<_>>().join("-")
}

/// Replaces the error codes in the description of an OAuth error response with sentences, and adds examples.
fn describe_oauth_errors(response: &mut Value) {
    let schema = format!("#/components/schemas/{}", oauth::ERROR_SCHEMA);
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
    response["headers"]["Pragma"] = header("For HTTP/1.0 caches.", "string");
    if codes.iter().any(|code| code.status() == 401) {
        response["headers"]["WWW-Authenticate"] = header("How to authenticate (RFC 7617).", "string");
    }
}

fn parse_code(text: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.as_str() == text)
}

/// The response for the errors `codes`, which share a status.
fn problem_response(codes: &[Code], request: Option<&Value>) -> Value {
    let status = codes.first().map(|code| code.status().as_u16()).unwrap_or_default();
    let texts: Vec<String> = codes.iter().map(|code| format!("{} (`{}`).", code.title(), code.as_str())).collect();
    let examples: Map<String, Value> =
        codes.iter().map(|code| (code.as_str().to_owned(), json!({ "value": example(*code, request) }))).collect();
    let mut headers = Map::new();
    if status == 401 {
        headers.insert("WWW-Authenticate".to_owned(), header("How to authenticate (RFC 6750).", "string"));
    }
    if status == 429 {
        let policy = "The limit that was reached: its name, and how many requests it allows in how many seconds.";
        let state = "The same limit: the requests that are left (none), and the seconds until one is allowed.";
        headers.insert("RateLimit-Policy".to_owned(), header(policy, "string"));
        headers.insert("RateLimit".to_owned(), header(state, "string"));
    }
    if matches!(status, 408 | 429 | 503) {
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

/// An example of a problem. Its `errors` name fields of `request`, the schema of the operation's request.
fn example(code: Code, request: Option<&Value>) -> Value {
    let mut example = json!({
        "type": format!("urn:latchkey:problem:{}", code.as_str()),
        "title": code.title(),
        "status": code.status().as_u16(),
        "detail": format!("{}.", code.title()),
        "code": code.as_str(),
        "request_id": "0b0f2d1e-6a41-4f57-9f0c-3d1a5c8e7b90",
    });
    let request_has = |field: &str| request.is_some_and(|request| request["properties"][field].is_object());
    let wrong_field = match code {
        Code::InvalidFields => invalid_field(request),
        Code::WeakPassword => {
            let field = if request_has("new_password") { "new_password" } else { "password" };
            Some((field.to_owned(), FieldCode::PasswordCommon, "This password is too common."))
        }
        Code::WrongPassword => {
            let field = if request_has("current_password") { "current_password" } else { "password" };
            Some((field.to_owned(), FieldCode::WrongPassword, "This is not the current password."))
        }
        Code::EmailTaken if request_has("email") => {
            Some(("email".to_owned(), FieldCode::Taken, "An account with this e-mail address exists."))
        }
        Code::UsernameTaken => Some(("username".to_owned(), FieldCode::Taken, "An account with this username exists.")),
        _ => None,
    };
    if let Code::SecondFactorRequired | Code::FactorEnrolmentRequired = code {
        let methods =
            if code == Code::SecondFactorRequired { json!(["totp", "recovery_code"]) } else { json!(["totp"]) };
        example["challenge"] = json!("lk_ch_AWYBkz\u{2026}");
        example["methods"] = methods;
        example["expires_in"] = json!(600);
    }
    if let Some((field, code, detail)) = wrong_field {
        example["detail"] = json!(format!("{field}: {detail}"));
        example["errors"] = json!([{ "field": field, "code": code.as_str(), "detail": detail }]);
    }
    example
}

/// An example of a wrong field. The first required field is missing; if no field is required, the first field has the wrong
/// type.
fn invalid_field(request: Option<&Value>) -> Option<(String, FieldCode, &'static str)> {
    let request = request?;
    if let Some(field) = request["required"][0].as_str() {
        return Some((field.to_owned(), FieldCode::Required, "This field is required."));
    }
    let field = request["properties"].as_object()?.keys().next()?;
    Some((field.clone(), FieldCode::WrongType, "Must be a string."))
}
