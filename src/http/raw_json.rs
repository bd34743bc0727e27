//! JSON responses serialized straight to bytes, for the most frequent calls.

use std::marker::PhantomData;

use hyper::body::Bytes;
use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
};
use poem_openapi::{
    payload::{Json, Payload},
    registry::{MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

/// The initial capacity, in bytes, of the buffer for a response. Few responses exceed it.
const INITIAL_CAPACITY: usize = 1024;

/// Like [`Json`], without the intermediate [`serde_json::Value`].
pub struct RawJson<T> {
    /// None if serialization failed.
    body: Option<Bytes>,
    /// `fn(T)` because the response owns no `T`: it can be sent to other threads whatever `T` is.
    value_type: PhantomData<fn(T)>,
}

impl<T: Serialize> RawJson<T> {
    /// Serializes a value.
    pub fn of(value: &T) -> Self {
        let mut body = Vec::with_capacity(INITIAL_CAPACITY);
        let written = serde_json::to_writer(&mut body, value);
        Self { body: written.ok().map(|()| body.into()), value_type: PhantomData }
    }

    /// Wraps the JSON text of a `T`, for types that write their JSON themselves.
    pub fn from_json(body: Vec<u8>) -> Self {
        Self { body: Some(body.into()), value_type: PhantomData }
    }

    /// The serialized value; `None` if serialization failed.
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }
}

impl<T: Type> Payload for RawJson<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn check_content_type(content_type: &str) -> bool {
        Json::<T>::check_content_type(content_type)
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type> IntoResponse for RawJson<T> {
    fn into_response(self) -> Response {
        // does not happen: all types of the service can be serialized
        let Some(body) = self.body else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        let mut response: Response = body.into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Self::CONTENT_TYPE));
        response
    }
}
