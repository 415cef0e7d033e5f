//! An agent's fields, wherever they stand: in a saved agent, over one in a new session, in a session's update.

use crate::agents::config::{
    AgentPatch, Compaction, MultiAgent, Reasoning, SUBAGENTS_DEFAULT, Text,
};
use crate::agents::request::{only, read_or_default, read_pairs, tools, within};
use crate::json::Fields;
use crate::responses::request::Complaint;
use crate::responses::request::check::{
    boolean, fields, integer, invalid, one_of, required, required_text, text,
};

const NAME_CHARS_MAX: usize = 256;
const MODEL_CHARS_MAX: usize = 256;
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const SUMMARIES: &[&str] = &["concise", "detailed", "auto"];
const TIERS: &[&str] = &["auto", "default", "flex", "priority", "fast", "ultrafast"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Saved,
    Session,
    Update,
}

pub(super) fn read(param: &str, agent: &Fields, place: Place) -> Result<AgentPatch, Complaint> {
    only(param, agent, known(place))?;
    let at = |name: &str| within(param, name);
    let model = match agent.said("model") {
        None => None,
        Some(json) => Some(read_model(&at("model"), &text(&at("model"), json)?)?),
    };
    let name = read_or_default(agent, "name", |json| {
        let name = text(&at("name"), json)?;
        if name.chars().count() > NAME_CHARS_MAX {
            let at = at("name");
            let message = format!("Invalid '{at}': a name has at most {NAME_CHARS_MAX} letters.");
            return Err(invalid(&at, message));
        }
        Ok(Some(name))
    })?;
    let mut patch = AgentPatch {
        model,
        name,
        instructions: read_or_default(agent, "instructions", |json| {
            text(&at("instructions"), json).map(Some)
        })?,
        metadata: if place == Place::Saved { read_pairs(agent)? } else { None },
        tools: read_or_default(agent, "tools", |json| tools::read(&at("tools"), json, place))?,
        text: read_or_default(agent, "text", |json| {
            read_text(&at("text"), &fields(&at("text"), json)?)
        })?,
        service_tier: match (agent.said("service_tier"), agent.get("service_tier")) {
            (None, _) => None,
            (Some(_), None) => Some("auto".to_owned()),
            (Some(_), Some(json)) => {
                Some(word(&at("service_tier"), &text(&at("service_tier"), json)?, TIERS)?)
            }
        },
        multi_agent: read_or_default(agent, "multi_agent", |json| {
            read_multi_agent(&at("multi_agent"), &fields(&at("multi_agent"), json)?)
        })?,
        compaction: read_or_default(agent, "compaction", |json| {
            let at = at("compaction");
            let compaction = fields(&at, json)?;
            only(&at, &compaction, &["async"])?;
            let told = compaction.get("async").map(|it| boolean(&within(&at, "async"), it));
            Ok(Compaction { in_background: told.transpose()?.unwrap_or(false) })
        })?,
        time_awareness: match agent.get("experimental") {
            None => None,
            Some(json) => {
                let at = at("experimental");
                let experimental = fields(&at, json)?;
                only(&at, &experimental, &["time_awareness"])?;
                let told = experimental.get("time_awareness");
                told.map(|it| boolean(&within(&at, "time_awareness"), it)).transpose()?
            }
        },
        ..AgentPatch::default()
    };
    let at = at("reasoning");
    match (place, agent.get("reasoning")) {
        (Place::Update, Some(json)) => {
            let reasoning = fields(&at, json)?;
            only(&at, &reasoning, &["effort"])?;
            if reasoning.said("effort").is_some() {
                patch.effort = Some(read_reasoning(&at, &reasoning)?.effort);
            }
        }
        (Place::Update, None) => {}
        (Place::Saved | Place::Session, _) => {
            patch.reasoning = read_or_default(agent, "reasoning", |json| {
                read_reasoning(&at, &fields(&at, json)?)
            })?;
        }
    }
    Ok(patch)
}

fn known(place: Place) -> &'static [&'static str] {
    match place {
        Place::Saved => &[
            "model",
            "compaction",
            "experimental",
            "instructions",
            "metadata",
            "multi_agent",
            "name",
            "reasoning",
            "service_tier",
            "text",
            "tools",
        ],
        Place::Session => &[
            "model",
            "compaction",
            "experimental",
            "instructions",
            "multi_agent",
            "reasoning",
            "service_tier",
            "text",
            "tools",
        ],
        Place::Update => &["model", "reasoning", "service_tier", "tools"],
    }
}

fn read_model(at: &str, model: &str) -> Result<String, Complaint> {
    if model.is_empty() || model.chars().count() > MODEL_CHARS_MAX {
        let message = format!("Invalid '{at}': a model's name has 1 to {MODEL_CHARS_MAX} letters.");
        return Err(invalid(at, message));
    }
    Ok(model.to_owned())
}

fn read_reasoning(at: &str, reasoning: &Fields) -> Result<Reasoning, Complaint> {
    only(at, reasoning, &["effort", "summary"])?;
    let read = |name: &str, words: &[&str]| {
        let at = within(at, name);
        reasoning.get(name).map(|it| word(&at, &text(&at, it)?, words)).transpose()
    };
    Ok(Reasoning { effort: read("effort", EFFORTS)?, summary: read("summary", SUMMARIES)? })
}

fn read_text(at: &str, fields_of: &Fields) -> Result<Text, Complaint> {
    only(at, fields_of, &["format", "verbosity"])?;
    let mut out = Text::default();
    if let Some(json) = fields_of.get("verbosity") {
        let at = within(at, "verbosity");
        out.verbosity = word(&at, &text(&at, json)?, &["low", "medium", "high"])?;
    }
    if let Some(json) = fields_of.get("format") {
        let at = within(at, "format");
        let format = fields(&at, json)?;
        let kind = required_text(&at, &format, "type")?;
        one_of(&within(&at, "type"), &kind, &["text", "json_schema"])?;
        if kind == "text" {
            only(&at, &format, &["type"])?;
            return Ok(out);
        }
        only(&at, &format, &["type", "schema"])?;
        let schema = required(&at, &format, "schema")?;
        fields(&within(&at, "schema"), schema)?;
        out.schema = Some(schema.clone());
    }
    Ok(out)
}

fn read_multi_agent(at: &str, multi: &Fields) -> Result<MultiAgent, Complaint> {
    only(at, multi, &["enabled", "max_concurrent_subagents"])?;
    let enabled = boolean(&within(at, "enabled"), required(at, multi, "enabled")?)?;
    let most = multi
        .get("max_concurrent_subagents")
        .map(|it| integer(&within(at, "max_concurrent_subagents"), it, 1))
        .transpose()?
        .map(|it| u32::try_from(it).unwrap_or(u32::MAX));
    Ok(MultiAgent {
        enabled,
        max_concurrent_subagents: enabled.then(|| most.unwrap_or(SUBAGENTS_DEFAULT)),
    })
}

fn word(at: &str, word: &str, words: &[&str]) -> Result<String, Complaint> {
    one_of(at, word, words)?;
    Ok(word.to_owned())
}
