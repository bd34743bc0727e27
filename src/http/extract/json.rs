//! JSON bodies, validated against the schema that is published in the OpenAPI document.

use std::{
    any::TypeId,
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use latchkey_verify::jose::strict_json::Strict;
use poem::{Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, Type},
};
use serde_json::{Map, Value, error::Category};

use crate::http::problem::{Code, FieldCode, FieldError, ProblemError};

pub(in crate::http) const CONTENT_TYPE: &str = "application/json";

/// A required JSON body.
pub struct Body<T>(pub T);

/// An optional JSON body.
pub struct MaybeBody<T>(pub Option<T>);

impl<'a, T: ParseFromJSON + 'static> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let required = true;
        Some(meta::<T>(required))
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let bytes = body.take()?.into_bytes().await?;
        check_content_type(request.content_type())?;
        Ok(Self(parse(&bytes)?))
    }
}

impl<'a, T: ParseFromJSON + 'static> ApiExtractor<'a> for MaybeBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let required = false;
        Some(meta::<T>(required))
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let bytes = body.take()?.into_bytes().await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        check_content_type(request.content_type())?;
        Ok(Self(Some(parse(&bytes)?)))
    }
}

fn meta<T: Type>(required: bool) -> MetaRequest {
    let content = vec![MetaMediaType { content_type: CONTENT_TYPE, schema: T::schema_ref() }];
    MetaRequest { description: None, content, required }
}

fn check_content_type(content_type: Option<&str>) -> Result<(), ProblemError> {
    let essence = content_type.and_then(|text| text.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(CONTENT_TYPE)) {
        return Ok(());
    }
    let detail = format!("Send the body as JSON, with the header `Content-Type: {CONTENT_TYPE}`.");
    Err(ProblemError::new(Code::UnsupportedMediaType, detail))
}

fn parse<T: ParseFromJSON + 'static>(bytes: &[u8]) -> Result<T, ProblemError> {
    let Strict(value): Strict<Value> = serde_json::from_slice(bytes).map_err(|error| {
        // A `Value` accepts every type, so only `Strict` causes errors of this category. It refuses duplicate fields because parsers
        // disagree about which of them counts.
        let detail = match error.classify() {
            Category::Data => "Duplicate field, or more than 64 fields.".to_owned(),
            Category::Syntax | Category::Eof | Category::Io => format!("The body is not JSON: {error}."),
        };
        ProblemError::new(Code::MalformedRequest, detail)
    })?;
    let Value::Object(fields) = &value else {
        return Err(ProblemError::new(Code::MalformedRequest, "The body must be a JSON object."));
    };
    let registry = registry_of::<T>();
    let schema = registry.schemas.get(T::name().as_ref());
    let errors = schema.map_or_else(Vec::new, |schema| check_fields(registry, schema, fields));
    if !errors.is_empty() {
        return Err(ProblemError::fields(Code::InvalidFields, errors));
    }
    // fails only for types that `check_value` leaves to this parser
    T::parse_from_json(Some(value)).map_err(|error| ProblemError::new(Code::MalformedRequest, error.into_message()))
}

/// The schema of a body's type and the schemas that it refers to. Built once per type and leaked: the handlers have few types.
fn registry_of<T: Type + 'static>() -> &'static Registry {
    static REGISTRIES: RwLock<BTreeMap<TypeId, &'static Registry>> = RwLock::new(BTreeMap::new());
    let id = TypeId::of::<T>();
    let found = REGISTRIES.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
    if let Some(registry) = found {
        return registry;
    }
    let mut registry = Registry::new();
    T::register(&mut registry);
    let mut registries = REGISTRIES.write().unwrap_or_else(PoisonError::into_inner);
    // another request may have inserted the registry meanwhile
    registries.entry(id).or_insert_with(|| Box::leak(Box::new(registry)))
}

/// Validates the fields of an object and returns all errors.
fn check_fields(registry: &Registry, schema: &MetaSchema, fields: &Map<String, Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in &schema.required {
        if fields.get(*name).is_none_or(Value::is_null) {
            errors.push(FieldError::new(name, FieldCode::Required, "This field is required."));
        }
    }
    for (name, value) in fields {
        let Some((_, expected)) = schema.properties.iter().find(|(property, _)| property == name) else {
            // shortened because callers may invent names of any length
            let shortened: String = name.chars().take(32).collect();
            errors.push(FieldError::new(&shortened, FieldCode::UnknownField, "This request has no such field."));
            continue;
        };
        // null counts as an absent field; a required one was reported above
        if !value.is_null()
            && let Some(error) = check_value(name, resolve(registry, expected), value)
        {
            errors.push(error);
        }
    }
    errors
}

/// The schemas that a field's value must satisfy, with references replaced by their schemas.
fn resolve<'a>(registry: &'a Registry, schema: &'a MetaSchemaRef) -> Vec<&'a MetaSchema> {
    match schema {
        MetaSchemaRef::Reference(name) => registry.schemas.get(name).into_iter().collect(),
        // poem's form of a reference that has a description of its own
        MetaSchemaRef::Inline(schema) if !schema.all_of.is_empty() => {
            schema.all_of.iter().flat_map(|part| resolve(registry, part)).collect()
        }
        MetaSchemaRef::Inline(schema) => vec![schema],
    }
}

/// Validates a field's value and returns the first error.
fn check_value(name: &str, schemas: Vec<&MetaSchema>, value: &Value) -> Option<FieldError> {
    for schema in schemas {
        let has_type = match schema.ty {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            // left to the type's `parse_from_json`
            _ => true,
        };
        if !has_type {
            return Some(FieldError::new(name, FieldCode::WrongType, format!("Must be of the type {}.", schema.ty)));
        }
        if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
            let allowed: Vec<_> = schema.enum_items.iter().map(Value::to_string).collect();
            let detail = format!("Must be one of {}.", allowed.join(", "));
            return Some(FieldError::new(name, FieldCode::UnknownValue, detail));
        }
        let length = value.as_str().map(|text| text.chars().count());
        if let (Some(length), Some(least)) = (length, schema.min_length)
            && length < least
        {
            let detail = format!("Must have at least {least} characters.");
            return Some(FieldError::new(name, FieldCode::TooShort, detail));
        }
        if let (Some(length), Some(most)) = (length, schema.max_length)
            && length > most
        {
            let detail = format!("Must have at most {most} characters.");
            return Some(FieldError::new(name, FieldCode::TooLong, detail));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use poem_openapi::{Enum, Object};

    use super::*;

    #[derive(Enum, Debug, PartialEq)]
    #[oai(rename_all = "snake_case")]
    enum Colour {
        Red,
        Green,
    }

    #[derive(Object, Debug, PartialEq)]
    struct Sample {
        #[oai(validator(min_length = 2, max_length = 3))]
        name: String,
        /// A reference with a description.
        colour: Option<Colour>,
        bright: Option<bool>,
    }

    fn errors(body: &str) -> Vec<(String, String)> {
        let error = parse::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::InvalidFields, "{error:?}");
        error.fields.into_iter().map(|field| (field.field, field.code)).collect()
    }

    #[test]
    fn body_with_invalid_fields_lists_all_of_them() {
        let pair = |field: &str, code: &str| (field.to_owned(), code.to_owned());
        assert_eq!(errors("{}"), [pair("name", "required")]);
        assert_eq!(errors(r#"{"name":null}"#), [pair("name", "required")]);
        assert_eq!(
            errors(r#"{"name":1,"colour":"blue","bright":"yes","size":3}"#),
            [
                pair("bright", "wrong_type"),
                pair("colour", "unknown_value"),
                pair("name", "wrong_type"),
                pair("size", "unknown_field")
            ]
        );
        assert_eq!(errors(r#"{"name":"a"}"#), [pair("name", "too_short")]);
        // the limits count characters, not bytes
        assert_eq!(errors(r#"{"name":"äöüß"}"#), [pair("name", "too_long")]);
    }

    #[test]
    fn valid_body_is_parsed() {
        let body = r#"{"name":"äöü","colour":"green","bright":null}"#;
        let sample = parse::<Sample>(body.as_bytes()).unwrap();
        assert_eq!(sample, Sample { name: "äöü".to_owned(), colour: Some(Colour::Green), bright: None });
    }

    #[test]
    fn malformed_body_is_refused_with_the_reason() {
        let detail = |body: &[u8]| parse::<Sample>(body).unwrap_err().detail;
        let fields: Vec<String> = (0..65).map(|n| format!("\"{n}\":0")).collect();
        for body in [r#"{"a":1,"a":1}"#, r#"{"name":{"a":1,"a":1}}"#, &format!("{{{}}}", fields.join(","))] {
            assert_eq!(detail(body.as_bytes()), "Duplicate field, or more than 64 fields.", "{body}");
        }
        let too_deep = "[".repeat(200);
        for body in [r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, &too_deep, r#"{"a":1"#] {
            let detail = detail(body.as_bytes());
            assert!(detail.starts_with("The body is not JSON: "), "{body}: {detail}");
        }
        assert!(detail(b"{\"a\":\"\xff\"}").starts_with("The body is not JSON: "));
        assert_eq!(detail(b"[]"), "The body must be a JSON object.");
    }

    #[test]
    fn body_that_is_no_unambiguous_object_is_malformed() {
        // \u0061 is `a`, so `name` occurs twice in the third body; \u{feff} is a byte order mark
        for body in ["", "{", r#"{"name":"ab","n\u0061me":"ac"}"#, "[]", "1", "{\"name\":\"ab\"} x", "\u{feff}{}"] {
            let error = parse::<Sample>(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, Code::MalformedRequest, "{body}");
        }
    }
}
