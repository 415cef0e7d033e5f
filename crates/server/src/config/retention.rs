//! `[projects.NAME.retention]`: how long what a project leaves is kept.

use everstate_kernel::ids::Millis;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// A session is deleted so long after the last thing that happened in it.
    pub sessions: Option<Days>,
    /// A response is deleted so long after it ended.
    pub responses: Option<Days>,
    /// Items are erased so long after the turn that brought them ended; or they are never written.
    pub items: Option<Kept>,
    /// The stream of a turn can be read again for so long after it ended.
    pub frames: Option<Days>,
}

/// How long items are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kept {
    /// `"zero"`: what is said is kept in memory only.
    Zero,
    For(Days),
}

const ZERO: &str = "zero";

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Kept::Zero => to.serialize_str(ZERO),
            Kept::For(days) => days.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Kept, D::Error> {
        match toml::Value::deserialize(from)? {
            toml::Value::String(text) if text == ZERO => Ok(Kept::Zero),
            toml::Value::String(text) => Err(D::Error::custom(format!(
                "`{text}` is no time to keep items: days, or \"zero\""
            ))),
            days => Days::deserialize(days).map(Kept::For).map_err(D::Error::custom),
        }
    }
}

/// A time in days; parts of a day are written as decimals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Days(f64);

const DAY_MS: f64 = 86_400_000.0;
/// A hundred years.
const DAYS_MAX: f64 = 36_525.0;

impl Days {
    /// `None`: no time that something could be kept for.
    pub fn new(days: f64) -> Option<Days> {
        (days > 0.0 && days <= DAYS_MAX).then_some(Days(days))
    }

    pub fn ms(self) -> Millis {
        (self.0 * DAY_MS) as Millis
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.fract() == 0.0 {
            true => to.serialize_u64(self.0 as u64),
            false => to.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Days, D::Error> {
        let days = match toml::Value::deserialize(from)? {
            toml::Value::Integer(days) => days as f64,
            toml::Value::Float(days) => days,
            _ => return Err(D::Error::custom("a time to keep something is a number of days")),
        };
        Days::new(days).ok_or_else(|| {
            D::Error::custom(format!("`{days}` days: more than 0, and no more than {DAYS_MAX}"))
        })
    }
}
