//! `POST /v1/responses` as a client writes it, in kernel words. Strict about types, so that a mistake is named where
//! it was made; generous with fields and items that we do not know: they are kept.
//!
//! What the words *mean* (whether a tool is configured, a call is open, a session exists) is the door's to find out.

pub(crate) mod check;
mod echo;
mod input;
pub(crate) mod tools;

use std::collections::BTreeMap;
use std::fmt;

use everstate_kernel::agent::{Format, Sampling};
use everstate_kernel::input::NewItem;
use everstate_kernel::item::Part;
use everstate_kernel::json::Json;
use everstate_kernel::tool::{Tool, ToolChoice};

use crate::json::{DEPTH_MAX, Fields, sound, tidy};
use crate::responses::request::check::{
    boolean, fields, integer, list, number_between, one_of, text, wrong,
};

const METADATA_KEYS_MAX: usize = 16;
const METADATA_KEY_CHARS_MAX: usize = 64;
const METADATA_VALUE_CHARS_MAX: usize = 512;
const OUTPUT_TOKENS_MIN: u64 = 16;

/// A request that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateRequest {
    pub model: String,
    pub input: Vec<InputItem>,
    pub instructions: Option<String>,
    pub tools: Vec<ToolSpec>,
    pub tool_choice: Choice,
    pub sampling: Sampling,
    pub stream: bool,
    pub include_obfuscation: bool,
    pub background: bool,
    pub store: bool,
    pub previous_response_id: Option<String>,
    pub conversation: Option<String>,
    /// A JSON object of strings.
    pub metadata: Option<Json>,
    pub max_tool_calls: Option<u32>,
    pub include: Vec<String>,
    /// The fields of the response that repeat the request, with the values that are in force; unknown ones too.
    pub echo: Json,
    /// Request fields that we do not act on: `agent.extra["responses"]`.
    pub extra: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum InputItem {
    /// Something said, or history. Calls and results in it are numbered within the request: turn 0.
    New(NewItem),
    /// The result of a call that is not in this request.
    Answer { call_id: String, output: Vec<Part> },
    /// A person's answer to an approval request of ours.
    Approval { request_id: String, approve: bool, reason: Option<String> },
    /// An item that we are to know.
    Reference(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolSpec {
    /// Run by the client, or (opaque) by a provider.
    Tool(Tool),
    /// Tools of a tool server: the door finds them in its configuration.
    Mcp(McpTool),
}

/// `{type: "mcp"}`: which tools of a server the model is offered.
#[derive(Clone, Debug, PartialEq)]
pub struct McpTool {
    pub server_label: String,
    /// Absent: all.
    pub allowed: Option<Filter>,
    /// Which of them a person has to approve, as far as the request says.
    pub always: Option<Filter>,
    pub never: Option<Filter>,
    /// The server's address, where the request names one: a server that is not of our configuration.
    pub server_url: Option<String>,
    pub connector_id: Option<String>,
}

/// All that is said must hold; nothing said: every tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub names: Option<Vec<String>>,
    pub read_only: Option<bool>,
}

impl Filter {
    pub fn admits(&self, name: &str, read_only: bool) -> bool {
        self.names.as_ref().is_none_or(|it| it.iter().any(|it| it == name))
            && self.read_only.is_none_or(|it| it == read_only)
    }
}

/// `tool_choice`, before tool servers are looked up.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Choice {
    #[default]
    Auto,
    None,
    Required,
    /// This tool.
    Named(String),
    /// One of these.
    Picks {
        picks: Vec<Pick>,
        required: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    Tool(String),
    /// Every tool of a server.
    Server(String),
}

impl Choice {
    /// `of_server` knows the names of the tools a server offers in this request.
    pub fn resolve(&self, of_server: impl Fn(&str) -> Vec<String>) -> ToolChoice {
        match self {
            Choice::Auto => ToolChoice::Auto,
            Choice::None => ToolChoice::None,
            Choice::Required => ToolChoice::Required,
            Choice::Named(name) => ToolChoice::Named(name.clone()),
            Choice::Picks { picks, required } => {
                let names = picks.iter().flat_map(|it| match it {
                    Pick::Tool(name) => vec![name.clone()],
                    Pick::Server(label) => of_server(label),
                });
                ToolChoice::Allowed { names: names.collect(), required: *required }
            }
        }
    }
}

/// What is wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub message: String,
    pub param: Option<String>,
    pub code: Option<&'static str>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Complaint {}

/// Reads a request's body.
pub fn read_create(body: &[u8]) -> Result<CreateRequest, Complaint> {
    let mut body = read_object(body)?;
    let echoed = body.clone();

    let Some(model) = body.take("model") else {
        return Err(Complaint {
            message: "Missing required parameter: 'model'. Name one of GET /v1/models.".to_owned(),
            param: Some("model".to_owned()),
            code: Some("missing_required_parameter"),
        });
    };
    let model = text("model", &model)?;
    let input = match body.take("input") {
        Some(json) => input::read_input(&json)?,
        None => Vec::new(),
    };
    let instructions = body.take("instructions").map(|it| text("instructions", &it)).transpose()?;
    let tools = match body.take("tools") {
        Some(json) => tools::read_tools(&json)?,
        None => Vec::new(),
    };
    let tool_choice = match body.take("tool_choice") {
        Some(json) => tools::read_choice(&json)?,
        None => Choice::Auto,
    };
    let sampling = read_sampling(&mut body)?;
    let mut flag = |name: &str, default: bool| match body.take(name) {
        Some(json) => boolean(name, &json),
        None => Ok(default),
    };
    let (stream, background, store) =
        (flag("stream", false)?, flag("background", false)?, flag("store", true)?);
    let include_obfuscation = match body.take("stream_options") {
        Some(json) => match fields("stream_options", &json)?.get("include_obfuscation") {
            Some(json) => boolean("stream_options.include_obfuscation", json)?,
            None => false,
        },
        None => false,
    };
    let previous_response_id = body
        .take("previous_response_id")
        .map(|it| text("previous_response_id", &it))
        .transpose()?;
    let conversation = body.take("conversation").map(|it| read_conversation(&it)).transpose()?;
    if previous_response_id.is_some() && conversation.is_some() {
        return Err(Complaint {
            message:
                "'previous_response_id' and 'conversation' exclude each other: send one of them."
                    .to_owned(),
            param: Some("previous_response_id".to_owned()),
            code: Some("mutually_exclusive_parameters"),
        });
    }
    let metadata = body.take("metadata").map(|it| read_metadata(&it)).transpose()?;
    let max_tool_calls = match body.take("max_tool_calls") {
        Some(json) => Some(u32::try_from(integer("max_tool_calls", &json, 1)?).unwrap_or(u32::MAX)),
        None => None,
    };
    let include = match body.take("include") {
        Some(json) => list("include", &json)?
            .iter()
            .enumerate()
            .map(|(i, it)| text(&format!("include[{i}]"), it))
            .collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let extra: BTreeMap<String, Json> =
        body.into_iter().filter(|(_, json)| json.text() != "null").collect();
    Ok(CreateRequest {
        echo: echo::echo(&echoed, &model),
        model,
        input,
        instructions,
        tools,
        tool_choice,
        sampling,
        stream,
        include_obfuscation,
        background,
        store,
        previous_response_id,
        conversation,
        metadata,
        max_tool_calls,
        include,
        extra,
    })
}

/// The body as an object, in one line, nested no deeper than readers further in can take.
pub(crate) fn read_object(body: &[u8]) -> Result<Fields, Complaint> {
    let complain = |message: String| Complaint { message, param: None, code: None };
    let text = std::str::from_utf8(body).map_err(|err| {
        complain(format!("The body is not UTF-8: byte {} belongs to no letter.", err.valid_up_to()))
    })?;
    let tidied = tidy(text).map_err(|_| {
        complain(format!("The body is nested deeper than {DEPTH_MAX} levels: flatten it."))
    })?;
    let not_json = |err| complain(format!("The body is not valid JSON: {err}."));
    // Before anything else, so that it is told where in the text, as it was sent, the mistake is.
    sound(text).map_err(not_json)?;
    let json = Json::parse(tidied.into_owned()).map_err(not_json)?;
    Fields::of(&json).ok_or_else(|| wrong("body", "an object", &json))
}

fn read_sampling(body: &mut Fields) -> Result<Sampling, Complaint> {
    let mut sampling = Sampling {
        temperature: None,
        top_p: None,
        max_output_tokens: None,
        parallel_tool_calls: None,
        reasoning_effort: None,
        reasoning_summary: None,
        format: None,
        verbosity: None,
        service_tier: None,
    };
    if let Some(json) = body.take("temperature") {
        number_between("temperature", &json, 0.0, 2.0)?;
        sampling.temperature = Some(json);
    }
    if let Some(json) = body.take("top_p") {
        number_between("top_p", &json, 0.0, 1.0)?;
        sampling.top_p = Some(json);
    }
    if let Some(json) = body.take("max_output_tokens") {
        sampling.max_output_tokens = Some(integer("max_output_tokens", &json, OUTPUT_TOKENS_MIN)?);
    }
    if let Some(json) = body.take("parallel_tool_calls") {
        sampling.parallel_tool_calls = Some(boolean("parallel_tool_calls", &json)?);
    }
    if let Some(json) = body.take("service_tier") {
        sampling.service_tier = Some(text("service_tier", &json)?);
    }
    if let Some(json) = body.take("reasoning") {
        let reasoning = fields("reasoning", &json)?;
        if let Some(json) = reasoning.get("effort") {
            sampling.reasoning_effort = Some(text("reasoning.effort", json)?);
        }
        // `generate_summary` is its older name.
        if let Some(json) = reasoning.get("summary").or_else(|| reasoning.get("generate_summary")) {
            sampling.reasoning_summary = Some(text("reasoning.summary", json)?);
        }
    }
    if let Some(json) = body.take("text") {
        let fields = fields("text", &json)?;
        if let Some(json) = fields.get("format") {
            sampling.format = Some(read_format(json)?);
        }
        if let Some(json) = fields.get("verbosity") {
            let verbosity = text("text.verbosity", json)?;
            one_of("text.verbosity", &verbosity, &["low", "medium", "high"])?;
            sampling.verbosity = Some(verbosity);
        }
    }
    Ok(sampling)
}

fn read_format(json: &Json) -> Result<Format, Complaint> {
    let format = fields("text.format", json)?;
    let kind = check::kind("text.format", &format)?;
    one_of("text.format.type", &kind, &["text", "json_object", "json_schema"])?;
    if kind == "text" {
        return Ok(Format::Text);
    }
    if kind == "json_object" {
        return Ok(Format::JsonObject);
    }
    let name = check::required("text.format", &format, "name")?;
    let schema = check::required("text.format", &format, "schema")?;
    fields("text.format.schema", schema)?;
    Ok(Format::JsonSchema {
        name: text("text.format.name", name)?,
        description: format
            .get("description")
            .map(|it| text("text.format.description", it))
            .transpose()?,
        schema: schema.clone(),
        strict: format.get("strict").map(|it| boolean("text.format.strict", it)).transpose()?,
    })
}

/// A name, or an object with one.
fn read_conversation(json: &Json) -> Result<String, Complaint> {
    match Fields::of(json) {
        Some(object) => text("conversation.id", check::required("conversation", &object, "id")?),
        None => text("conversation", json),
    }
}

pub(crate) fn read_metadata(json: &Json) -> Result<Json, Complaint> {
    let too_much = |message: String, param: String| Complaint {
        message,
        param: Some(param),
        code: Some("invalid_value"),
    };
    let object = fields("metadata", json)?;
    let n_keys = object.iter().count();
    if n_keys > METADATA_KEYS_MAX {
        return Err(too_much(
            format!(
                "Invalid 'metadata': at most {METADATA_KEYS_MAX} keys, but there are {n_keys}."
            ),
            "metadata".to_owned(),
        ));
    }
    for (key, value) in object.iter() {
        let param = format!("metadata.{}", check::shown(key));
        if key.chars().count() > METADATA_KEY_CHARS_MAX {
            return Err(too_much(
                format!("Invalid '{param}': a key has at most {METADATA_KEY_CHARS_MAX} letters."),
                param,
            ));
        }
        if text(&param, value)?.chars().count() > METADATA_VALUE_CHARS_MAX {
            return Err(too_much(
                format!(
                    "Invalid '{param}': a value has at most {METADATA_VALUE_CHARS_MAX} letters."
                ),
                param,
            ));
        }
    }
    Ok(json.clone())
}
