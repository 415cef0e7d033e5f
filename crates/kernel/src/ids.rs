//! Names. Every name inside a session is computed from its state, so it is the same after a crash.
//!
//! How a name looks to a client (prefixes, keyed checks) is the doors' business; here it is a number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Unix time in milliseconds, always handed in.
pub type Millis = u64;
/// Position of an append in its session's log, from 1.
pub type Seq = u64;
/// Counts turns of a session, from 1. A fork goes on counting where its parent was cut.
pub type TurnNo = u32;
/// Counts steps of a turn, from 1; 0 before the first.
pub type StepNo = u32;
/// Counts attempts of a step, from 1.
pub type AttemptNo = u32;

/// How many buckets sessions are spread over: the unit of ownership and of distribution.
pub const BUCKETS: u16 = 1024;

/// One durable log. Written `ses_` and 26 letters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

impl SessionId {
    /// Where the session's rows live. It leads every key of the store.
    pub fn bucket(self) -> u16 {
        // One round of a 64-bit mixer, so that ids which differ in any bit spread.
        let mut x = (self.0 >> 64) as u64 ^ self.0 as u64;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % u64::from(BUCKETS)) as u16
    }
}

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Writes bytes in Crockford's base 32, lower case, most significant bits first.
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut n_bits) = (0u32, 0u32);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        n_bits += 8;
        while n_bits >= 5 {
            n_bits -= 5;
            out.push(DIGITS[(bits >> n_bits & 31) as usize] as char);
        }
    }
    if n_bits > 0 {
        out.push(DIGITS[(bits << (5 - n_bits) & 31) as usize] as char);
    }
    out
}

/// Reads what [`base32`] wrote. `None` for a foreign letter or for bits that `base32` never writes.
pub fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut n_bits) = (0u32, 0u32);
    for letter in text.bytes() {
        let digit = DIGITS.iter().position(|&it| it == letter)?;
        bits = bits << 5 | digit as u32;
        n_bits += 5;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits & 255) as u8);
        }
    }
    (n_bits < 5 && bits & ((1 << n_bits) - 1) == 0).then_some(out)
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ses_{}", base32(&self.0.to_be_bytes()))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<SessionId, BadId> {
        let digits = text.strip_prefix("ses_").ok_or(BadId)?;
        let bytes = from_base32(digits).ok_or(BadId)?;
        Ok(SessionId(u128::from_be_bytes(bytes.try_into().map_err(|_| BadId)?)))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SessionId, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is no session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a session id: it is `ses_` and 26 letters and digits")
    }
}

impl std::error::Error for BadId {}

/// An entry of the transcript: the `idx`-th item that turn brought forth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemId {
    pub turn: TurnNo,
    pub idx: u32,
}

/// Where the numbers begin of what is heard beside a turn's own course (steering, news of an earlier call), and of
/// attempts that are made beside its steps. A model's
/// items and calls are numbered without gaps, so that their names are known when their first piece is shown; nothing
/// may come in between.
pub const ASIDE: u32 = 1 << 31;

/// The `n`-th tool call of a turn, from 1. With the session it is the call's idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId {
    pub turn: TurnNo,
    pub n: u32,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/c{}", self.turn, self.n)
    }
}

/// One try of a step on one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    pub turn: TurnNo,
    pub step: StepNo,
    pub attempt: AttemptNo,
}

impl AttemptId {
    /// Is it made beside the steps, for a summary? Nobody is shown what it says.
    pub fn is_aside(self) -> bool {
        self.attempt >= ASIDE
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempt.checked_sub(ASIDE) {
            Some(n) => write!(f, "{}.{}#+{n}", self.turn, self.step),
            None => write!(f, "{}.{}#{}", self.turn, self.step, self.attempt),
        }
    }
}

/// A place in a session, the same in the CLI, the API, the log and URLs: `ses_4kq7/1.3` is turn 1, step 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub session: SessionId,
    pub turn: TurnNo,
    pub step: StepNo,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.session, self.turn, self.step)
    }
}
