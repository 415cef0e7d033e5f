//! The Responses dialect: `POST /responses`, as OpenAI speaks it and others after it.
//!
//! Upstream: `encode` and `stream`. Door: `request` and `voice`, and `listing` for the items of a session.

pub mod request;
pub mod voice;
pub mod listing;
mod wire;
mod encode;
mod stream;

use everstate_kernel::ids::Millis;
use everstate_kernel::input::Failure;
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;

use crate::body::Body;
use crate::failure;
use crate::upstream::{Decoder, Dialect, Encoded, Quirks};

/// The dialect's word: in offers, in opaque items, in `extra`.
pub const NAME: &str = "responses";

#[derive(Clone, Copy, Debug)]
pub struct Responses;

impl Dialect for Responses {
    fn name(&self) -> &'static str {
        NAME
    }

    fn path(&self) -> &'static str {
        "/responses"
    }

    fn encode(
        &self,
        offer: &Offer,
        request: &Request,
        quirks: &Quirks,
    ) -> Result<Encoded, Failure> {
        Ok(encode::encode(offer, request, quirks))
    }

    fn decoder(&self, offer: &Offer) -> Box<dyn Decoder> {
        Box::new(Body::new(stream::Answer::new(offer.crypto_domain.clone())))
    }

    fn failure(&self, status: u16, retry_after_ms: Option<Millis>, body: &[u8]) -> Failure {
        failure::of_answer(status, retry_after_ms, body)
    }
}
