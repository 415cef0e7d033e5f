//! The direction towards providers: what every dialect can do there, and the small differences between providers
//! that claim to speak the same one. Sending is `providers`' business; whether to try again is the kernel's.

use std::fmt::Debug;

use everstate_kernel::delta::Piece;
use everstate_kernel::ids::Millis;
use everstate_kernel::input::Failure;
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use serde::{Deserialize, Serialize};

/// A wire format providers speak.
pub trait Dialect: Send + Sync + Debug {
    /// Its word in offers and configuration.
    fn name(&self) -> &'static str;

    /// Follows a provider's base URL.
    fn path(&self) -> &'static str;

    /// The body to send; always asks for a stream. The same request gives the same bytes.
    fn encode(&self, offer: &Offer, request: &Request, quirks: &Quirks)
    -> Result<Encoded, Failure>;

    /// Reads the answer to one request: a stream of events, or one JSON object where a provider does not stream.
    fn decoder(&self, offer: &Offer) -> Box<dyn Decoder>;

    /// Says what an answer with an error status means.
    fn failure(&self, status: u16, retry_after_ms: Option<Millis>, body: &[u8]) -> Failure;
}

/// Takes an answer's bytes, cut anywhere, and gives its pieces.
pub trait Decoder: Send {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), Failure>;

    /// No more bytes follow. An answer that did not come to its end is broken.
    fn finish(&mut self, out: &mut Vec<Piece>) -> Result<(), Failure>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    pub body: Vec<u8>,
    /// How many bytes of the body, from its start, hold what an earlier request of the session may have held already.
    pub prefix: usize,
    /// What could not be taken along, in words.
    pub left_behind: Vec<String>,
}

/// Where a provider differs from the dialect as its inventor speaks it. All absent: no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// Chat: the output limit is called `max_tokens`.
    pub max_tokens: bool,
    /// There is no `developer` role: say `system`.
    pub no_developer_role: bool,
    /// Chat: `stream_options` is refused; usage comes by itself or not at all.
    pub no_stream_options: bool,
    pub no_parallel_tool_calls: bool,
    /// `strict` in a function's definition is refused.
    pub no_strict: bool,
    /// Answers can be held to JSON, but not to a schema.
    pub no_json_schema: bool,
    /// `tool_choice` knows only `auto` and `none`.
    pub no_forced_tools: bool,
    pub no_reasoning_effort: bool,
    pub no_prompt_cache_key: bool,
    /// `store` and `include` are refused.
    pub no_store: bool,
    /// Call ids are exactly nine letters and digits.
    pub short_call_ids: bool,
    /// Results of tools are plain text: their images follow in a user message. Chat is always so.
    pub text_results: bool,
    /// Chat: a message's earlier reasoning is handed back in this field (`reasoning_content`, `reasoning`).
    pub reasoning_field: Option<String>,
}
