//! Recorded traffic of real providers, where it is at hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::yaml;

pub(crate) struct Exchange {
    pub(crate) cassette: String,
    pub(crate) uri: String,
    pub(crate) request: Value,
    pub(crate) status: u16,
    pub(crate) body: Answer,
}

pub(crate) enum Answer {
    /// As it was streamed, or any other text.
    Text(String),
    Json(Value),
    /// Not there, or binary.
    None,
}

impl Answer {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Answer::Text(text) => text.clone().into_bytes(),
            Answer::Json(json) => serde_json::to_vec_pretty(json).expect("JSON"),
            Answer::None => Vec::new(),
        }
    }
}

/// Folders whose traffic is in one of our dialects. The others' (gRPC, other APIs) are no evidence here.
const FOLDERS: &[&str] = &[
    "test_openai_responses",
    "test_openai",
    "test_deepseek_responses",
    "test_groq",
    "test_openrouter",
    "test_mistral",
    "test_xai",
];

pub(crate) struct Recorded {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) n_files: usize,
    /// Files without a plain HTTP exchange.
    pub(crate) other: Vec<String>,
}

/// `None`, and a word about it, where there is none.
pub(crate) fn all() -> Option<Recorded> {
    let shared = std::env::var_os("EVERSTATE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let root = shared.join("data/cassettes");
    if !root.is_dir() {
        say(&format!("skipped: no recorded traffic at {}", root.display()));
        return None;
    }
    let mut recorded = Recorded { exchanges: Vec::new(), n_files: 0, other: Vec::new() };
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        let mut files: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a cassette is text");
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let cassette = format!("{folder}/{name}");
            recorded.n_files += 1;
            let before = recorded.exchanges.len();
            let yaml = yaml::parse(&text);
            for it in yaml["interactions"].as_array().into_iter().flatten() {
                recorded.exchanges.extend(exchange(&cassette, it));
            }
            if recorded.exchanges.len() == before {
                recorded.other.push(cassette);
            }
        }
    }
    Some(recorded)
}

fn exchange(cassette: &str, it: &Value) -> Option<Exchange> {
    let response = it.get("response")?;
    let body = match (&response["parsed_body"], &response["body"]["string"]) {
        (Value::Null, Value::String(text)) => Answer::Text(text.clone()),
        (Value::Null, _) => Answer::None,
        (json, _) => Answer::Json(json.clone()),
    };
    Some(Exchange {
        cassette: cassette.to_owned(),
        uri: it["request"]["uri"].as_str()?.to_owned(),
        request: it["request"]["parsed_body"].clone(),
        status: u16::try_from(response["status"]["code"].as_u64()?).ok()?,
        body,
    })
}

#[allow(clippy::print_stderr, reason = "what was skipped is to be seen in the test's output")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
