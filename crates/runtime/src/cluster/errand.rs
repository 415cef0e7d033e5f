//! What is posted to a session's inbox, and what is answered to a peer that waits for it.

use everstate_kernel::ids::Seq;
use everstate_kernel::input::Input;
use serde::{Deserialize, Serialize};

use crate::host::FeedError;

/// What an errand is posted as: unique in the cluster, because the epoch is.
pub(crate) fn name(process: u64, n: u64) -> String {
    format!("{process}/{n}")
}

/// Whose errand it is.
pub(crate) fn process(name: &str) -> Option<u64> {
    name.split_once('/')?.0.parse().ok()
}

/// Inputs for a session that somebody else decides for.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) inputs: Vec<Input>,
    /// Of the append; without it, the key it was posted with.
    pub(crate) key: Option<String>,
    /// A peer waits, and reads the outcome as a [`Reply`].
    pub(crate) from_peer: bool,
}

#[derive(Serialize)]
struct Out<'a> {
    errand: &'a [Input],
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

#[derive(Deserialize)]
struct In {
    errand: Vec<Input>,
    #[serde(default)]
    key: Option<String>,
}

impl Errand {
    pub(crate) fn write(inputs: &[Input], key: Option<&str>) -> Vec<u8> {
        serde_json::to_vec(&Out { errand: inputs, key }).expect("inputs have a JSON form")
    }

    /// Of a peer; or one input, or several that belong together.
    pub(crate) fn read(body: &[u8]) -> serde_json::Result<Errand> {
        if let Ok(In { errand, key }) = serde_json::from_slice(body) {
            return Ok(Errand { inputs: errand, key, from_peer: true });
        }
        let inputs = match body.first() {
            Some(b'[') => serde_json::from_slice(body)?,
            _ => vec![serde_json::from_slice(body)?],
        };
        Ok(Errand { inputs, key: None, from_peer: false })
    }
}

/// The outcome of an errand that led to no append.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    No(FeedError),
    /// Nobody waits for this any more; the session stands there.
    Nothing {
        seq: Seq,
    },
}

impl Reply {
    pub(crate) fn write(&self) -> String {
        serde_json::to_string(self).expect("a reply has a JSON form")
    }

    pub(crate) fn read(text: &str) -> Option<Reply> {
        serde_json::from_str(text).ok()
    }
}
