//! The Chat Completions dialect: `POST /chat/completions`, spoken by nearly everybody, by each in its own way.

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
pub const NAME: &str = "chat";

#[derive(Clone, Copy, Debug)]
pub struct Chat;

impl Dialect for Chat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn path(&self) -> &'static str {
        "/chat/completions"
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
