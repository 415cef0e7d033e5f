//! How nodes recognise each other: each request carries a keyed hash of all it says, under a secret that every node of
//! the cluster has and nobody else. The secret is never sent.
//!
//! It keeps strangers out and contents unaltered on the way there; it hides nothing. Where the network between nodes is
//! not private, something below has to encrypt.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::keys::{hex, random, sha256};

const NONCE: HeaderName = HeaderName::from_static("x-everstate-nonce");
const TO: HeaderName = HeaderName::from_static("x-everstate-to");
const SEAL: HeaderName = HeaderName::from_static("x-everstate-seal");

/// Nonces that are remembered; what was said once is not heard twice.
const NONCES: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Seals {
    key: hmac::Key,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    set: HashSet<String>,
    order: VecDeque<String>,
}

/// What a seal vouches for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
}

impl Seals {
    pub(crate) fn new(secret: &[u8; 32]) -> Seals {
        Seals { key: hmac::Key::new(hmac::HMAC_SHA256, secret), heard: Mutex::default() }
    }

    /// The headers that seal a request. `to` is the process that may hear it, `None` if its epoch is not known.
    /// Returned with the nonce, under which the answer may be sealed.
    pub(crate) fn seal(&self, said: Said<'_>, to: Option<u64>) -> (HeaderMap, String) {
        let nonce = hex(&random::<16>());
        let to = to.map(|it| it.to_string()).unwrap_or_default();
        let seal = hex(hmac::sign(&self.key, &text(said, &nonce, &to)).as_ref());
        let mut headers = HeaderMap::new();
        for (name, value) in [(NONCE, &nonce), (TO, &to), (SEAL, &seal)] {
            headers.insert(name, HeaderValue::from_str(value).expect("plain letters"));
        }
        (headers, nonce)
    }

    /// Was this said by one of us, to this process, and not before? `here` is the process's epoch. The nonce.
    pub(crate) fn admit(&self, said: Said<'_>, headers: &HeaderMap, here: u64) -> Option<String> {
        let read = |name: &HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
        let (nonce, to, seal) = (read(&NONCE)?, read(&TO)?, read(&SEAL)?);
        let seal = unhex(seal)?;
        if nonce.len() != 32 || hmac::verify(&self.key, &text(said, nonce, to), &seal).is_err() {
            return None;
        }
        let meant = to.is_empty() || to.parse() == Ok(here);
        (meant && self.is_new(nonce)).then(|| nonce.to_owned())
    }

    /// Seals what is answered to the request with this nonce.
    pub(crate) fn seal_answer(&self, nonce: &str, body: &[u8]) -> (HeaderName, HeaderValue) {
        let seal = hex(hmac::sign(&self.key, &answer(nonce, body)).as_ref());
        (SEAL, HeaderValue::from_str(&seal).expect("plain letters"))
    }

    pub(crate) fn is_answer(&self, nonce: &str, body: &[u8], headers: &HeaderMap) -> bool {
        let seal = headers.get(&SEAL).and_then(|it| it.to_str().ok()).and_then(unhex);
        seal.is_some_and(|it| hmac::verify(&self.key, &answer(nonce, body), &it).is_ok())
    }

    fn is_new(&self, nonce: &str) -> bool {
        // Nothing that panics runs under this lock.
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if !heard.set.insert(nonce.to_owned()) {
            return false;
        }
        heard.order.push_back(nonce.to_owned());
        if heard.order.len() > NONCES
            && let Some(oldest) = heard.order.pop_front()
        {
            heard.set.remove(&oldest);
        }
        true
    }
}

/// Lengths cannot be shifted between the parts: none but the body's hash may hold a line break.
fn text(said: Said<'_>, nonce: &str, to: &str) -> Vec<u8> {
    let Said { method, path, body } = said;
    format!("ask\n{method}\n{path}\n{nonce}\n{to}\n{}", hex(&sha256(body))).into_bytes()
}

fn answer(nonce: &str, body: &[u8]) -> Vec<u8> {
    format!("answer\n{nonce}\n{}", hex(&sha256(body))).into_bytes()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests;
