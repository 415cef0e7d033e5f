//! What an agent and a session are made of, as the API resolves them: every default filled in. Kept as documents, an
//! agent's in the registry, a session's among its settings; told back as they stand here.
//!
//! What a turn makes of its tools is in `tools`; how clients write all this is `request`'s business.

pub mod tools;

use std::collections::BTreeMap;

use everstate_kernel::agent::{Agent, Format, Sampling};
use everstate_kernel::json::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::{Fields, Obj};
use crate::responses;

/// The tool list of an agent, in bytes of compact JSON.
pub const TOOLS_BYTES_MAX: usize = 3 << 20;
/// How many subagents may run at once, where nothing is said.
pub const SUBAGENTS_DEFAULT: u32 = 6;

/// An agent's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentConfig {
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Each as the API tells it, with its defaults and without its secrets: a JSON object with a `type`.
    #[serde(default)]
    pub tools: Vec<Json>,
    #[serde(default)]
    pub reasoning: Reasoning,
    #[serde(default)]
    pub text: Text,
    /// `auto`, `default`, `flex`, `priority`, `fast` or `ultrafast`.
    #[serde(default = "auto")]
    pub service_tier: String,
    #[serde(default)]
    pub multi_agent: MultiAgent,
    #[serde(default)]
    pub compaction: Compaction,
    #[serde(default)]
    pub experimental: Experimental,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// `none` to `max`; absent is the model's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// `concise`, `detailed` or `auto`; absent is no summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The JSON Schema that answers have to match; absent is ordinary text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    /// `low`, `medium` or `high`.
    pub verbosity: String,
}

impl Default for Text {
    fn default() -> Text {
        Text { schema: None, verbosity: "medium".to_owned() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiAgent {
    pub enabled: bool,
    /// Absent where subagents are not enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_subagents: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// In the background, beside the turn.
    #[serde(rename = "async")]
    pub in_background: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experimental {
    /// The model is told the time now and then.
    pub time_awareness: bool,
}

/// What a session was made with and is told with: the `settings` of a session of this door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionDoc {
    /// The saved agent, or the name that stands for one that was written out with the session.
    pub agent_id: String,
    /// The saved agent's version, when the session was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<u64>,
    pub agent: AgentConfig,
    #[serde(default)]
    pub environment: Environment,
    #[serde(default)]
    pub vault_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_options: Option<PromptCacheOptions>,
    #[serde(default)]
    pub review: Review,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_limit_cents: Option<u64>,
}

/// Where a session's commands run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Nowhere: it has none.
    #[default]
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptCacheOptions {
    /// `30m` or `12h`.
    pub ttl: String,
}

/// Who looks at actions that need somebody's yes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// A person.
    #[default]
    None,
    /// Nobody: what would need a person is denied.
    AutoReview,
}

/// Changes to a configuration: what is absent stays. `null` was read as the default it stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentPatch {
    pub model: Option<String>,
    pub instructions: Option<Option<String>>,
    pub name: Option<Option<String>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub tools: Option<Vec<Json>>,
    pub reasoning: Option<Reasoning>,
    /// The effort alone, with the summary left as it is.
    pub effort: Option<Option<String>>,
    pub text: Option<Text>,
    pub service_tier: Option<String>,
    pub multi_agent: Option<MultiAgent>,
    pub compaction: Option<Compaction>,
    pub time_awareness: Option<bool>,
}

impl AgentConfig {
    pub fn new(model: impl Into<String>) -> AgentConfig {
        AgentConfig {
            model: model.into(),
            instructions: None,
            name: None,
            metadata: BTreeMap::new(),
            tools: Vec::new(),
            reasoning: Reasoning::default(),
            text: Text::default(),
            service_tier: auto(),
            multi_agent: MultiAgent::default(),
            compaction: Compaction::default(),
            experimental: Experimental::default(),
        }
    }

    pub fn merge(&mut self, patch: &AgentPatch) {
        fn set<T: Clone>(field: &mut T, new: &Option<T>) {
            if let Some(new) = new {
                field.clone_from(new);
            }
        }
        set(&mut self.model, &patch.model);
        set(&mut self.instructions, &patch.instructions);
        set(&mut self.name, &patch.name);
        set(&mut self.metadata, &patch.metadata);
        set(&mut self.tools, &patch.tools);
        set(&mut self.reasoning, &patch.reasoning);
        set(&mut self.reasoning.effort, &patch.effort);
        set(&mut self.text, &patch.text);
        set(&mut self.service_tier, &patch.service_tier);
        set(&mut self.multi_agent, &patch.multi_agent);
        set(&mut self.compaction, &patch.compaction);
        set(&mut self.experimental.time_awareness, &patch.time_awareness);
    }

    /// As a session has it. What searches for tools that are loaded later is no tool of a session's own: the API tells it
    /// of saved agents only.
    pub fn in_session(mut self) -> AgentConfig {
        let is_search =
            |it: &Json| Fields::of(it).is_some_and(|it| it.text("type").as_deref() == Some(SEARCH));
        self.tools.retain(|it| !is_search(it));
        self
    }

    /// The agent as a turn runs it. Its tools are left out: which of them there are is the door's to find out, from
    /// [`AgentConfig::tool_specs`].
    pub fn kernel(&self, cache: Option<&PromptCacheOptions>) -> Agent {
        let mut extra = BTreeMap::new();
        if let Some(cache) = cache {
            let mut options = Obj::new();
            options.str("ttl", &cache.ttl);
            let fields = BTreeMap::from([("prompt_cache_options".to_owned(), options.json())]);
            extra.insert(responses::NAME.to_owned(), fields);
        }
        Agent {
            model: self.model.clone(),
            instructions: self.instructions.clone(),
            sampling: Sampling {
                reasoning_effort: self.reasoning.effort.clone(),
                reasoning_summary: self.reasoning.summary.clone(),
                format: self.text.schema.clone().map(format),
                verbosity: Some(self.text.verbosity.clone()).filter(|it| it != "medium"),
                service_tier: Some(self.service_tier.clone()).filter(|it| it != "auto"),
                ..Sampling::default()
            },
            extra,
            ..Agent::default()
        }
    }
}

impl SessionDoc {
    /// The document, as the kernel keeps it.
    pub fn json(&self) -> Json {
        Json::of(self)
    }

    /// `None`: it is no document of this door.
    pub fn read(json: &Json) -> Option<SessionDoc> {
        serde_json::from_str(json.text()).ok()
    }
}

const SEARCH: &str = "tool_search";

fn auto() -> String {
    "auto".to_owned()
}

/// This API names no schema; others want a name.
const SCHEMA_NAME: &str = "answer";

fn format(schema: Json) -> Format {
    // What providers call strict guarantees the form, and takes only schemas that leave nothing open.
    let strict = is_closed(&schema.value());
    Format::JsonSchema {
        name: SCHEMA_NAME.to_owned(),
        description: None,
        schema,
        strict: strict.then_some(true),
    }
}

/// Does every object in the schema name all it may hold, and demand it?
fn is_closed(schema: &Value) -> bool {
    match schema {
        Value::Array(list) => list.iter().all(is_closed),
        Value::Object(map) => {
            let names = map.get("properties").and_then(Value::as_object);
            let is_object = names.is_some() || map.get("type") == Some(&Value::from("object"));
            let demanded = |name: &String| {
                let list = map.get("required").and_then(Value::as_array);
                list.is_some_and(|it| it.iter().any(|it| it.as_str() == Some(name)))
            };
            let closed = !is_object
                || map.get("additionalProperties") == Some(&Value::Bool(false))
                    && names.is_none_or(|it| it.keys().all(demanded));
            // What a value may be is no schema.
            let inner = map.iter().filter(|(name, _)| {
                !matches!(name.as_str(), "enum" | "const" | "default" | "examples")
            });
            closed && inner.into_iter().all(|(_, it)| is_closed(it))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
