//! Which trace something belongs to: read from a caller's `traceparent` (W3C Trace Context), or computed.
//!
//! The names of a turn's spans are computed from its address, so every node gives them the same ones, and a trace that
//! was begun by one node is continued by another without anything being handed over.

use everstate_kernel::ids::{SessionId, TurnNo};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{Sampler as Standard, SamplingDecision, ShouldSample};

use crate::config::telemetry::{Sampler, Share};
use crate::keys::{random, sha256};

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub trace: TraceId,
    /// `INVALID` at the root.
    pub span: SpanId,
    /// Is it told?
    pub sampled: bool,
}

/// The header's name.
pub(crate) const HEADER: &str = "traceparent";

impl Place {
    /// Reads `traceparent`. What is not well-formed is as good as none.
    pub(crate) fn read(text: &str) -> Option<Place> {
        let text = text.trim();
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |it: &str, n: usize| {
            it.len() == n && it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
        };
        let well_formed =
            hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && version != "ff";
        // Later versions may say more; this one does not.
        if !well_formed || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = TraceId::from_hex(trace).ok().filter(|it| *it != TraceId::INVALID)?;
        let span = SpanId::from_hex(span).ok().filter(|it| *it != SpanId::INVALID)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Place { trace, span, sampled: flags & 1 == 1 })
    }

    pub(crate) fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    /// The span of this name below `self`.
    pub(crate) fn below(&self, span: SpanId) -> Place {
        Place { span, ..*self }
    }

    pub(crate) fn context(&self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.trace, self.span, flags, false, TraceState::NONE)
    }

    /// Where a request belongs: below its caller's span, or in a trace of its own.
    pub(crate) fn of_request(caller: Option<Place>, sampler: &Sampler) -> Place {
        let trace = caller.map_or_else(|| TraceId::from_bytes(random()), |it| it.trace);
        let sampled = sampler.takes(caller.map(|it| it.sampled), trace);
        let span = caller.map_or(SpanId::INVALID, |it| it.span);
        Place { trace, span, sampled }
    }

    /// Where a turn belongs: where its terms say, or in a trace of its own that any node would give it.
    pub(crate) fn of_turn(
        recorded: Option<&str>,
        session: SessionId,
        turn: TurnNo,
        sampler: &Sampler,
    ) -> Place {
        recorded.and_then(Place::read).unwrap_or_else(|| {
            let hash = sha256(format!("everstate trace {session}/{turn}").as_bytes());
            let trace = TraceId::from_bytes(hash[..16].try_into().expect("a hash is longer"));
            Place { trace, span: SpanId::INVALID, sampled: sampler.takes(None, trace) }
        })
    }
}

/// The span of what happens at this address of the session.
pub(crate) fn span_of(session: SessionId, address: &str) -> SpanId {
    let hash = sha256(format!("everstate span {session}/{address}").as_bytes());
    SpanId::from_bytes(hash[..8].try_into().expect("a hash is longer"))
}

pub(crate) fn span_at_random() -> SpanId {
    SpanId::from_bytes(random())
}

impl Sampler {
    /// `parent`: what a caller has decided. The same trace gets the same answer everywhere.
    fn takes(&self, parent: Option<bool>, trace: TraceId) -> bool {
        if let Some(decided) = parent.filter(|_| self.parent_based) {
            return decided;
        }
        match self.share {
            Share::All => true,
            Share::None => false,
            Share::Ratio(ratio) => {
                let by_ratio = Standard::TraceIdRatioBased(ratio);
                let result = by_ratio.should_sample(None, trace, "", &SpanKind::Internal, &[], &[]);
                result.decision == SamplingDecision::RecordAndSample
            }
        }
    }
}

#[cfg(test)]
mod tests;
