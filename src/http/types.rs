//! JSON forms and OpenAPI schemas of types that requests and responses contain.

use std::borrow::Cow;

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{clock::Timestamp, secret::SecretText};

/// Implements [`Type`] for a type whose JSON form is a string with this `format` of OpenAPI.
macro_rules! string_type {
    ($name:ident, $format:literal) => {
        impl Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                // the pattern of poem-openapi's own names
                concat!("string_", $format).into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", $format)))
            }

            fn as_raw_value(&self) -> Option<&Self::RawValueType> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
                Box::new(std::iter::once(self))
            }
        }
    };
}

/// A secret in a request, such as a password or a refresh token. Its `Debug` output hides the value.
#[derive(Clone, Debug)]
pub struct Secret(pub SecretText);

impl Secret {
    /// A secret for the examples of the API documentation. Its value does not matter: serialized, every secret is [`MASK`].
    pub(crate) fn masked() -> Self {
        Self("".into())
    }
}

string_type!(Secret, "password");

impl ParseFromJSON for Secret {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::String(text)) => Ok(Self(text.into())),
            // the error must not quote the value
            _ => Err(ParseError::custom("must be a string")),
        }
    }
}

/// Replaces a secret wherever one would be serialized.
pub const MASK: &str = "********";

impl ToJSON for Secret {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(MASK.to_owned()))
    }
}

/// A JSON object with any members.
#[derive(Clone, Debug, Serialize)]
pub struct JsonObject(pub Map<String, Value>);

impl Type for JsonObject {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "object".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new("object")))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for JsonObject {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::Object(members)) => Ok(Self(members)),
            _ => Err(ParseError::custom("must be an object")),
        }
    }
}

impl ToJSON for JsonObject {
    fn to_json(&self) -> Option<Value> {
        Some(Value::Object(self.0.clone()))
    }
}

/// A time, as RFC 3339 in UTC. Digits below the millisecond are dropped.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Timestamp);

string_type!(Time, "date-time");

impl ToJSON for Time {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.0.to_string()))
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl ParseFromJSON for Time {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let text = value.as_ref().and_then(Value::as_str).ok_or_else(|| ParseError::custom("must be a string"))?;
        let time: jiff::Timestamp = text.parse().map_err(ParseError::custom)?;
        Ok(Self(Timestamp::from_millis(time.as_millisecond())))
    }
}
