//! JSON bodies, checked against the very schema that the API document shows, so that neither can say other than the other.

use std::{
    any::TypeId,
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use latchkey_verify::jose::strict_json;
use poem::{Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, Type},
};
use serde_json::{Map, Value};

use crate::http::problem::{Code, FieldError, ProblemError};

pub(in crate::http) const CONTENT_TYPE: &str = "application/json";

/// A required JSON body.
pub struct Body<T>(pub T);

/// A JSON body that may be left out.
pub struct MaybeBody<T>(pub Option<T>);

impl<'a, T: ParseFromJSON + 'static> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(meta::<T>(true))
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
        Some(meta::<T>(false))
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
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ProblemError::new(Code::MalformedRequest, format!("The body is not JSON: {error}.")))?;
    let Value::Object(fields) = &value else {
        return Err(ProblemError::new(Code::MalformedRequest, "The body must be a JSON object."));
    };
    // what readers would disagree about is refused rather than guessed
    if !strict_json::is_unambiguous(bytes) {
        let detail = "A field stands in the body twice, or there are more than 64 of them.";
        return Err(ProblemError::new(Code::MalformedRequest, detail));
    }
    let registry = registry_of::<T>();
    let wrong =
        registry.schemas.get(T::name().as_ref()).map_or_else(Vec::new, |schema| check(registry, schema, fields));
    if !wrong.is_empty() {
        return Err(ProblemError::fields(Code::InvalidFields, wrong));
    }
    // What the schema allows parses; should it ever not, the reason is still told.
    T::parse_from_json(Some(value)).map_err(|error| ProblemError::new(Code::MalformedRequest, error.into_message()))
}

/// The schema of a body, and those it refers to. Made once for each type and kept: there are as many as handlers with bodies.
fn registry_of<T: Type + 'static>() -> &'static Registry {
    static KNOWN: RwLock<BTreeMap<TypeId, &'static Registry>> = RwLock::new(BTreeMap::new());
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&TypeId::of::<T>()).copied();
    known.unwrap_or_else(|| {
        let mut registry = Registry::new();
        T::register(&mut registry);
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(TypeId::of::<T>()).or_insert_with(|| Box::leak(Box::new(registry)))
    })
}

/// What is wrong with an object's fields: all of it, not only the first.
fn check(registry: &Registry, schema: &MetaSchema, fields: &Map<String, Value>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    for name in &schema.required {
        if fields.get(*name).is_none_or(Value::is_null) {
            wrong.push(FieldError::new(name, "required", format!("`{name}` is required")));
        }
    }
    for (name, value) in fields {
        let Some((_, expected)) = schema.properties.iter().find(|(property, _)| property == name) else {
            // of a name that may be anything, no more than its start is told
            let start: String = name.chars().take(32).collect();
            wrong.push(FieldError::new(&start, "unknown_field", format!("`{start}` is not a field of this request")));
            continue;
        };
        // null stands for a field that isn't there; a required one was found missing above
        if !value.is_null()
            && let Some(error) = check_value(name, resolve(registry, expected), value)
        {
            wrong.push(error);
        }
    }
    wrong
}

fn resolve<'a>(registry: &'a Registry, schema: &'a MetaSchemaRef) -> Vec<&'a MetaSchema> {
    match schema {
        MetaSchemaRef::Reference(name) => registry.schemas.get(name).into_iter().collect(),
        // a reference with more said about it
        MetaSchemaRef::Inline(schema) if !schema.all_of.is_empty() => {
            schema.all_of.iter().flat_map(|part| resolve(registry, part)).collect()
        }
        MetaSchemaRef::Inline(schema) => vec![schema],
    }
}

fn check_value(name: &str, schemas: Vec<&MetaSchema>, value: &Value) -> Option<FieldError> {
    schemas.into_iter().find_map(|schema| {
        let right = match schema.ty {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            _ => true,
        };
        if !right {
            return Some(FieldError::new(name, "wrong_type", format!("`{name}` must be a {}", schema.ty)));
        }
        if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
            let allowed: Vec<_> = schema.enum_items.iter().map(Value::to_string).collect();
            let detail = format!("`{name}` must be one of {}", allowed.join(", "));
            return Some(FieldError::new(name, "unknown_value", detail));
        }
        let length = value.as_str().map(|text| text.chars().count());
        if let (Some(length), Some(least)) = (length, schema.min_length)
            && length < least
        {
            let detail = format!("`{name}` must have at least {least} characters");
            return Some(FieldError::new(name, "too_short", detail));
        }
        if let (Some(length), Some(most)) = (length, schema.max_length)
            && length > most
        {
            let detail = format!("`{name}` must have at most {most} characters");
            return Some(FieldError::new(name, "too_long", detail));
        }
        None
    })
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
        /// With a description of its own.
        colour: Option<Colour>,
        bright: Option<bool>,
    }

    fn errors(body: &str) -> Vec<(String, String)> {
        let error = parse::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::InvalidFields, "{error:?}");
        error.fields.into_iter().map(|field| (field.field, field.code)).collect()
    }

    #[test]
    fn every_wrong_field_is_listed() {
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
        assert_eq!(errors(r#"{"name":"äöüß"}"#), [pair("name", "too_long")]);
    }

    #[test]
    fn what_is_right_is_read() {
        let sample = parse::<Sample>(r#"{"name":"äöü","colour":"green","bright":null}"#.as_bytes());
        assert_eq!(sample.unwrap(), Sample { name: "äöü".to_owned(), colour: Some(Colour::Green), bright: None });
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for body in ["", "{", r#"{"name":"ab","n\u0061me":"ac"}"#, "[]", "1", "{\"name\":\"ab\"} x", "\u{feff}{}"] {
            assert_eq!(parse::<Sample>(body.as_bytes()).unwrap_err().code, Code::MalformedRequest, "{body}");
        }
    }
}
