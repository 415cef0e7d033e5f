//! What clients of the Agents API send, in words of ours. Strict: what is not known is refused, so that nothing that
//! was asked for is silently left out.
//!
//! Whether what is named exists (an agent, a call, a vault) is the door's to find out.

mod agent;
mod events;
mod input;
mod tools;

use std::collections::BTreeMap;

use everstate_kernel::input::NewItem;
use everstate_kernel::json::Json;

use crate::agents::config::{AgentConfig, AgentPatch, Environment, PromptCacheOptions, Review};
use crate::json::Fields;
use crate::responses::request::check::{
    boolean, fields, integer, invalid, list, one_of, required, required_text, text,
};
use crate::responses::request::{Complaint, read_metadata, read_object};

pub use events::{Decision, SessionInput, read_events};

/// Vaults of a session.
const VAULTS_MAX: usize = 64;

/// `POST /v1/agents/sessions`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSession {
    /// Without it, `agent` has a model.
    pub agent_id: Option<String>,
    pub agent: AgentPatch,
    /// Messages of the user; never empty.
    pub input: Vec<NewItem>,
    pub environment: Environment,
    pub metadata: BTreeMap<String, String>,
    pub vault_ids: Vec<String>,
    pub prompt_cache_options: Option<PromptCacheOptions>,
    pub review: Review,
    pub spend_limit_cents: Option<u64>,
    pub stream: bool,
    /// Are the stream's events padded?
    pub include_obfuscation: bool,
}

/// `POST /v1/agents/sessions/{id}`: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateSession {
    pub agent: AgentPatch,
    pub metadata: Option<BTreeMap<String, String>>,
    pub prompt_cache_options: Option<Option<PromptCacheOptions>>,
    pub review: Option<Review>,
    pub spend_limit_cents: Option<Option<u64>>,
}

/// `POST /v1/agents`: the configuration with its defaults.
pub fn read_agent_create(body: &[u8]) -> Result<AgentConfig, Complaint> {
    let patch = agent::read("", &read_object(body)?, agent::Place::Saved)?;
    let model = patch.model.clone().ok_or_else(|| missing("model"))?;
    let mut config = AgentConfig::new(model);
    config.merge(&patch);
    Ok(config)
}

/// `POST /v1/agents/{id}`.
pub fn read_agent_update(body: &[u8]) -> Result<AgentPatch, Complaint> {
    agent::read("", &read_object(body)?, agent::Place::Saved)
}

pub fn read_session_create(body: &[u8]) -> Result<CreateSession, Complaint> {
    let body = read_object(body)?;
    only(
        "",
        &body,
        &[
            "environment",
            "agent",
            "agent_id",
            "input",
            "metadata",
            "prompt_cache_options",
            "review",
            "spend_control",
            "stream",
            "stream_options",
            "vault_ids",
        ],
    )?;
    let agent_id = body.get("agent_id").map(|it| text("agent_id", it)).transpose()?;
    let agent = match body.get("agent") {
        Some(json) => agent::read("agent", &fields("agent", json)?, agent::Place::Session)?,
        None => AgentPatch::default(),
    };
    if agent_id.is_none() && agent.model.is_none() {
        return Err(missing("agent.model"));
    }
    let environment = match body.get("environment") {
        Some(json) => read_environment(json)?,
        None => return Err(missing("environment")),
    };
    let stream = body.get("stream").map(|it| boolean("stream", it)).transpose()?.unwrap_or(false);
    let include_obfuscation = match body.get("stream_options") {
        Some(_) if !stream => {
            let message = "Invalid 'stream_options': only allowed when 'stream' is true.";
            return Err(invalid("stream_options", message.to_owned()));
        }
        Some(options) => read_stream_options(options)?,
        None => true,
    };
    let input = match body.get("input") {
        Some(json) => input::read_input("input", json)?,
        // Nothing else could begin a turn for a session that has no environment.
        None => return Err(missing("input")),
    };
    Ok(CreateSession {
        agent_id,
        agent,
        input,
        environment,
        metadata: read_pairs(&body)?.unwrap_or_default(),
        vault_ids: read_vaults(&body)?,
        prompt_cache_options: read_cache(&body)?.flatten(),
        review: read_review(&body)?.unwrap_or_default(),
        spend_limit_cents: read_spend(&body)?.flatten(),
        stream,
        include_obfuscation,
    })
}

pub fn read_session_update(body: &[u8]) -> Result<UpdateSession, Complaint> {
    let body = read_object(body)?;
    only("", &body, &["agent", "metadata", "prompt_cache_options", "review", "spend_control"])?;
    let agent = match body.get("agent") {
        Some(json) => agent::read("agent", &fields("agent", json)?, agent::Place::Update)?,
        None => AgentPatch::default(),
    };
    Ok(UpdateSession {
        agent,
        metadata: read_pairs(&body)?,
        prompt_cache_options: read_cache(&body)?,
        review: read_review(&body)?,
        spend_limit_cents: read_spend(&body)?,
    })
}

fn read_environment(json: &Json) -> Result<Environment, Complaint> {
    let environment = fields("environment", json)?;
    let kind = required_text("environment", &environment, "type")?;
    one_of("environment.type", &kind, &["none", "openai_hosted", "self_hosted"])?;
    if kind != "none" {
        return Err(Complaint {
            message: format!(
                "Environments of the type '{kind}' are not available yet: use 'none', and functions of your own."
            ),
            param: Some("environment.type".to_owned()),
            code: Some("unsupported"),
        });
    }
    only("environment", &environment, &["type"])?;
    Ok(Environment::None)
}

/// Are events padded?
fn read_stream_options(json: &Json) -> Result<bool, Complaint> {
    let options = fields("stream_options", json)?;
    only("stream_options", &options, &["include_obfuscation"])?;
    match options.get("include_obfuscation") {
        Some(json) => boolean("stream_options.include_obfuscation", json),
        None => Ok(true),
    }
}

/// `metadata`; said as `null`, none.
pub(crate) fn read_pairs(body: &Fields) -> Result<Option<BTreeMap<String, String>>, Complaint> {
    read_or_default(body, "metadata", |json| {
        let json = read_metadata(json)?;
        Ok(serde_json::from_str(json.text()).unwrap_or_default())
    })
}

fn read_cache(body: &Fields) -> Result<Option<Option<PromptCacheOptions>>, Complaint> {
    let name = "prompt_cache_options";
    read_or_default(body, name, |json| {
        let options = fields(name, json)?;
        only(name, &options, &["ttl"])?;
        let Some(ttl) = options.get("ttl") else {
            return Ok(Some(PromptCacheOptions { ttl: "30m".to_owned() }));
        };
        let param = format!("{name}.ttl");
        let ttl = text(&param, ttl)?;
        one_of(&param, &ttl, &["30m", "12h"])?;
        Ok(Some(PromptCacheOptions { ttl }))
    })
}

fn read_review(body: &Fields) -> Result<Option<Review>, Complaint> {
    read_or_default(body, "review", |json| {
        let word = text("review", json)?;
        one_of("review", &word, &["none", "auto_review"])?;
        Ok(if word == "none" { Review::None } else { Review::AutoReview })
    })
}

/// `None`: nothing was said of it. `Some(None)`: no limit.
fn read_spend(body: &Fields) -> Result<Option<Option<u64>>, Complaint> {
    let name = "spend_control";
    read_or_default(body, name, |json| {
        let control = fields(name, json)?;
        only(name, &control, &["limit"])?;
        if control.said("limit").is_none() {
            required(name, &control, "limit")?;
        }
        control.get("limit").map(|it| integer("spend_control.limit", it, 1)).transpose()
    })
}

fn read_vaults(body: &Fields) -> Result<Vec<String>, Complaint> {
    let Some(json) = body.get("vault_ids") else { return Ok(Vec::new()) };
    let ids = list("vault_ids", json)?;
    if ids.len() > VAULTS_MAX {
        return Err(too_many("vault_ids", "vaults", VAULTS_MAX, ids.len()));
    }
    ids.iter().enumerate().map(|(i, it)| text(&format!("vault_ids[{i}]"), it)).collect()
}

/// `None`: nothing was said of it. `null` is the default.
fn read_or_default<T: Default>(
    fields: &Fields,
    name: &str,
    read: impl FnOnce(&Json) -> Result<T, Complaint>,
) -> Result<Option<T>, Complaint> {
    match (fields.said(name), fields.get(name)) {
        (None, _) => Ok(None),
        (Some(_), None) => Ok(Some(T::default())),
        (Some(_), Some(json)) => read(json).map(Some),
    }
}

/// A field's place in the request.
pub(crate) fn within(param: &str, name: &str) -> String {
    if param.is_empty() { name.to_owned() } else { format!("{param}.{name}") }
}

/// No other fields than these.
pub(crate) fn only(param: &str, fields: &Fields, known: &[&str]) -> Result<(), Complaint> {
    match fields.iter().find(|(name, _)| !known.contains(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let param = within(param, &crate::responses::request::check::shown(name));
            Err(Complaint {
                message: format!("Unknown parameter: '{param}'."),
                param: Some(param),
                code: Some("unknown_parameter"),
            })
        }
    }
}

pub(crate) fn missing(param: &str) -> Complaint {
    Complaint {
        message: format!("Missing required parameter: '{param}'."),
        param: Some(param.to_owned()),
        code: Some("missing_required_parameter"),
    }
}

fn too_many(param: &str, what: &str, max: usize, n: usize) -> Complaint {
    invalid(param, format!("Invalid '{param}': at most {max} {what}, but there are {n}."))
}
