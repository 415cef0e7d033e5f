//! What a caller is told when the answer is no, or when something broke. Built here, and only here: no other file
//! knows a status code.
//!
//! Every error has the API's own shape and four things more: `why`, `try`, `docs` and `address`; and says by
//! `x-should-retry` whether sending it again helps, because the official clients would otherwise guess.

pub mod codes;

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use everstate_runtime::ports::Down;
use everstate_runtime::start::StartError;
use serde_json::{Map, Value, json};

use codes::Code;

pub type Result<T> = std::result::Result<T, ApiError>;

/// One refusal or failure, as its caller will see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(Box<Told>);

#[derive(Clone, Debug, PartialEq)]
struct Told {
    code: &'static Code,
    /// Stands in for the table's word where a provider or a turn has a word of its own.
    word: Option<String>,
    message: String,
    param: Option<String>,
    why: Vec<String>,
    attempt: Option<String>,
    address: Option<String>,
    retry_after_ms: Option<u64>,
}

impl ApiError {
    pub fn new(code: &'static Code, message: impl Into<String>) -> ApiError {
        ApiError(Box::new(Told {
            code,
            word: None,
            message: message.into(),
            param: None,
            why: Vec::new(),
            attempt: None,
            address: None,
            retry_after_ms: None,
        }))
    }

    /// The field of the request it is about.
    pub fn param(mut self, param: impl Into<String>) -> ApiError {
        self.0.param = Some(param.into());
        self
    }

    pub fn why(mut self, why: impl Into<String>) -> ApiError {
        self.0.why.push(why.into());
        self
    }

    /// What the caller could do next; best a command that can be pasted.
    pub fn attempt(mut self, attempt: impl Into<String>) -> ApiError {
        self.0.attempt = Some(attempt.into());
        self
    }

    /// The place in a session it is about.
    pub fn address(mut self, address: impl fmt::Display) -> ApiError {
        self.0.address = Some(address.to_string());
        self
    }

    pub fn word(mut self, word: impl Into<String>) -> ApiError {
        self.0.word = Some(word.into());
        self
    }

    pub fn retry_after_ms(mut self, ms: u64) -> ApiError {
        self.0.retry_after_ms = Some(ms);
        self
    }

    pub fn code(&self) -> &'static Code {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn reasons(&self) -> &[String] {
        &self.0.why
    }

    pub fn next(&self) -> Option<&str> {
        self.0.attempt.as_deref()
    }

    pub fn status(&self) -> u16 {
        self.0.code.status
    }

    /// The error in the API's own shape.
    pub fn json(&self) -> Value {
        let told = &*self.0;
        let mut error = Map::new();
        error.insert("type".into(), told.code.kind.into());
        error.insert("code".into(), told.word.as_deref().unwrap_or(told.code.word).into());
        error.insert("message".into(), told.message.clone().into());
        error.insert("param".into(), told.param.clone().into());
        error.insert("why".into(), told.why.clone().into());
        error.insert("try".into(), told.attempt.clone().into());
        if let Some(address) = &told.address {
            error.insert("address".into(), address.clone().into());
        }
        json!({ "error": error })
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json().to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status()).expect("the table holds real status codes");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let again = if self.0.code.retry { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(again));
        if let Some(ms) = self.0.retry_after_ms.or(self.0.code.retry.then_some(1_000)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        if self.status() == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Down> for ApiError {
    fn from(down: Down) -> ApiError {
        ApiError::new(&codes::STORE_UNAVAILABLE, format!("the store cannot do this now: {down}"))
    }
}

impl From<StartError> for ApiError {
    fn from(err: StartError) -> ApiError {
        match err {
            StartError::Down(down) => down.into(),
            StartError::Refused(why) => ApiError::new(&codes::STORE_FAILED, why),
        }
    }
}

/// What a client called something that does not exist, short enough to be repeated in a message.
pub(crate) fn shown(name: &str) -> String {
    let mut short: String = name.chars().take(80).filter(|it| !it.is_control()).collect();
    if short.len() < name.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests;
