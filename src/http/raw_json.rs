//! Answers in JSON that are written straight from their fields, for the calls that are made most often.

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

/// Most answers are no longer.
const USUAL_BYTES: usize = 1024;

/// As [`Json`], which makes a [`serde_json::Value`] of everything first.
pub struct RawJson<T> {
    /// None if it couldn't be written.
    body: Option<Bytes>,
    of: PhantomData<fn(T)>,
}

impl<T: Serialize> RawJson<T> {
    /// Writes it.
    pub fn of(value: &T) -> Self {
        let mut body = Vec::with_capacity(USUAL_BYTES);
        let written = serde_json::to_writer(&mut body, value);
        Self { body: written.ok().map(|()| body.into()), of: PhantomData }
    }

    /// One that was written before.
    pub fn written(body: Bytes) -> Self {
        Self { body: Some(body), of: PhantomData }
    }

    /// What is sent.
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
        // no type of ours can fail; should one ever, nothing half-written is sent
        let Some(body) = self.body else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        let mut response: Response = body.into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Self::CONTENT_TYPE));
        response
    }
}
