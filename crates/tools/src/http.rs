//! A tool that is one HTTP request. Declared in the configuration, checked when it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::item::{Outcome, Part};
use everstate_kernel::json::Json;
use everstate_kernel::tool::{Runs, Safety, ServerTool, Tool};
use everstate_runtime::ports::{ToolReturn, ToolRun};
use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::address::Reach;
use crate::fetch::{self, Fetch, Request};
use crate::schema::Schema;
use crate::{Hand, LABEL, Supplies};

mod headers;
mod settle;
mod template;

use headers::Headers;
use settle::{Settled, Tries};
use template::{BadArgument, Template};

/// A `[[tools]]` section of `everstate.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpToolConfig {
    pub name: String,
    pub description: Option<String>,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// `https://bank.example/refunds/{order}`: arguments fill path segments and query values. The others go into the
    /// JSON body, or into the query of a `GET` or `DELETE`.
    pub url: String,
    /// Secrets as `env:NAME`, `file:PATH` or `Bearer env:NAME`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// JSON Schema of the arguments, an object. Without it they are the URL's, as text.
    pub parameters: Option<Value>,
    /// JSON Schema of the answer.
    pub output: Option<Value>,
    /// For one try.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// What may happen to a call whose fate is not known: `read_only`, `idempotent` or `neither`.
    #[serde(default = "neither")]
    pub safety: Safety,
    /// Does a person have to say yes to each call?
    #[serde(default)]
    pub approval: bool,
    /// May it reach this machine and private networks?
    #[serde(default)]
    pub allow_private: bool,
    #[serde(default = "answer_max_bytes")]
    pub answer_max_bytes: usize,
}

fn timeout_ms() -> u64 {
    30_000
}

fn neither() -> Safety {
    Safety::Neither
}

fn answer_max_bytes() -> usize {
    fetch::ANSWER_BYTES_MAX
}

/// Waited before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// What a run may take beyond its tries, before its caller should stop waiting.
const SLACK_MS: u64 = 1000;
/// Anything shorter turns up in texts by chance.
const SECRET_BYTES_MIN: usize = 6;
const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// Ready to run.
#[derive(Debug)]
struct HttpTool {
    config: HttpToolConfig,
    method: Method,
    template: Template,
    headers: Headers,
    parameters: Value,
    arguments: Schema,
    output: Option<Schema>,
    fetch: Fetch,
}

pub(crate) fn build(
    section: Map<String, Value>,
    supplies: &mut Supplies<'_>,
) -> Result<Box<dyn Hand>, String> {
    let config: HttpToolConfig =
        serde_json::from_value(Value::Object(section)).map_err(|error| error.to_string())?;
    let method = match config.method.as_str() {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        other => {
            return Err(format!("method `{other}`: use GET, POST, PUT, PATCH or DELETE"));
        }
    };
    if !(1..=TIMEOUT_MS_MAX).contains(&config.timeout_ms) {
        return Err(format!("timeout_ms: use 1 to {TIMEOUT_MS_MAX}"));
    }
    let template = Template::parse(&config.url).map_err(|error| format!("url: {error}"))?;
    let headers = headers::read(&config.headers, supplies.resolve)?;
    if !headers.secrets.is_empty() && config.url.starts_with("http:") && !config.allow_private {
        let hint = "use https, or `allow_private = true` for a tool in your own network";
        return Err(format!("url: secrets do not go over an open connection: {hint}"));
    }
    let parameters = parameters(config.parameters.as_ref(), &template)?;
    let arguments = Schema::new(&parameters).map_err(|error| format!("parameters: {error}"))?;
    let output = config.output.as_ref().map(Schema::new).transpose();
    let output = output.map_err(|error| format!("output: {error}"))?;
    let reach = if config.allow_private { Reach::Inside } else { Reach::Outside };
    let fetch = supplies.fetch(reach)?;
    Ok(Box::new(HttpTool {
        config,
        method,
        template,
        headers,
        parameters,
        arguments,
        output,
        fetch,
    }))
}

/// The schema as the model gets it: closed, unless it says itself what else may come.
fn parameters(given: Option<&Value>, template: &Template) -> Result<Value, String> {
    let Some(given) = given else {
        let names: Vec<&str> = template.names().collect();
        let properties: Map<String, Value> =
            names.iter().map(|it| ((*it).to_owned(), json!({"type": "string"}))).collect();
        return Ok(json!({
            "type": "object",
            "properties": properties,
            "required": names,
            "additionalProperties": false,
        }));
    };
    let mut schema = given.as_object().cloned().ok_or("parameters: a schema is a table")?;
    if schema.get("type") != Some(&json!("object")) {
        return Err("parameters: the arguments are an object, write `type = \"object\"`".to_owned());
    }
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if let Some(name) = template.names().find(|it| !properties.contains_key(*it)) {
        return Err(format!("url: `{{{name}}}` is not among the properties of `parameters`"));
    }
    if let Some(name) = template.in_path().find(|it| !required.contains(&json!(it))) {
        return Err(format!("url: `{{{name}}}` is in the path, so `parameters` must require it"));
    }
    // A model's argument nobody declared could mean something to the other side.
    const OPEN: [&str; 8] = [
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
        "$ref",
        "allOf",
        "anyOf",
        "oneOf",
        "if",
    ];
    if !OPEN.iter().any(|it| schema.contains_key(*it)) {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    Ok(Value::Object(schema))
}

#[async_trait]
impl Hand for HttpTool {
    fn declared(&self) -> Tool {
        let n_tries = n_tries(self.config.safety);
        let pauses: Duration = PAUSES.iter().take(n_tries - 1).sum();
        Tool {
            name: self.config.name.clone(),
            description: self.config.description.clone(),
            parameters: Some(Json::of(&self.parameters)),
            strict: None,
            runs: Runs::Server(ServerTool {
                label: LABEL.to_owned(),
                safety: self.config.safety,
                approval: self.config.approval,
                timeout_ms: self.config.timeout_ms * n_tries as u64
                    + pauses.as_millis() as u64
                    + SLACK_MS,
            }),
            extra: None,
        }
    }

    async fn run(&self, run: &ToolRun) -> ToolReturn {
        let prepared = self.prepare(run);
        let settled = match prepared {
            Err(text) => Settled { outcome: Outcome::Failed, text },
            Ok(prepared) => {
                let safety = stricter(self.config.safety, run.server.safety);
                self.tries(&prepared, safety).await
            }
        };
        let text = self.redacted(settled.text);
        ToolReturn { outcome: settled.outcome, output: vec![Part::text(text)] }
    }
}

/// A request that can be sent, again and again.
struct Prepared {
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl HttpTool {
    /// Everything that can go wrong before anything is sent. The text is for the model.
    fn prepare(&self, run: &ToolRun) -> Result<Prepared, String> {
        let value: Value = serde_json::from_str(&run.arguments)
            .map_err(|error| format!("The arguments are no valid JSON: {error}"))?;
        self.arguments.check(&value).map_err(|wrong| {
            format!("Nothing was sent, because the arguments do not fit the tool's schema: {wrong}")
        })?;
        let Value::Object(mut arguments) = value else {
            return Err("Nothing was sent: the arguments must be a JSON object".to_owned());
        };
        let bad = |it: BadArgument| format!("Nothing was sent, because of an argument: {it}");
        let mut url = self.template.fill(&arguments).map_err(bad)?;
        arguments.retain(|name, _| self.template.names().all(|it| it != name));
        if let Some(name) = arguments.keys().find(|it| self.template.sets(it)) {
            return Err(bad(BadArgument(format!("`{name}` is set by the tool itself"))));
        }

        let mut headers = self.headers.plain.clone();
        headers
            .entry(header::ACCEPT)
            .or_insert(HeaderValue::from_static("application/json, text/*;q=0.9"));
        let key = HeaderValue::from_str(&run.key)
            .map_err(|_| "Nothing was sent: the call's key cannot be a header".to_owned())?;
        headers.insert("idempotency-key", key);
        let body = if matches!(self.method, Method::GET | Method::DELETE) {
            into_query(&mut url, &arguments).map_err(bad)?;
            None
        } else {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
            Some(Bytes::from(Value::Object(arguments).to_string()))
        };
        Ok(Prepared { url, headers, body })
    }

    async fn tries(&self, prepared: &Prepared, safety: Safety) -> Settled {
        let mut tries = Tries::new(safety, self.method.clone());
        for n in 0..n_tries(safety) {
            if n > 0 {
                tokio::time::sleep(PAUSES[n - 1]).await;
            }
            let answer = self.fetch.fetch(self.request(prepared)).await;
            let done = tries.hear(answer);
            tracing::debug!(tool = %self.config.name, n, done, "tool tried");
            if done {
                break;
            }
        }
        tries.settle(self.output.as_ref())
    }

    fn request(&self, prepared: &Prepared) -> Request {
        Request {
            method: self.method.clone(),
            url: prepared.url.clone(),
            headers: prepared.headers.clone(),
            credentials: self.headers.credentials.clone(),
            body: prepared.body.clone(),
            answer_bytes_max: self.config.answer_max_bytes,
            timeout: Duration::from_millis(self.config.timeout_ms),
        }
    }

    /// Some services repeat what they were sent. Our secrets are not for the model.
    fn redacted(&self, text: String) -> String {
        let secrets = self.headers.secrets.iter().map(ExposeSecret::expose_secret);
        secrets
            .filter(|it| it.len() >= SECRET_BYTES_MIN)
            .fold(text, |text, secret| text.replace(secret, "[secret]"))
    }
}

fn into_query(url: &mut Url, arguments: &Map<String, Value>) -> Result<(), BadArgument> {
    let mut pairs = Vec::new();
    for (name, value) in arguments {
        match value {
            Value::Null => {}
            Value::Array(values) => {
                for value in values {
                    pairs.push((name, template::scalar(name, value)?));
                }
            }
            value => pairs.push((name, template::scalar(name, value)?)),
        }
    }
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(())
}

fn n_tries(safety: Safety) -> usize {
    match safety {
        Safety::ReadOnly | Safety::Idempotent => 1 + PAUSES.len(),
        Safety::Neither => 1,
    }
}

/// The configuration may have changed since the turn began: the more careful of both counts.
fn stricter(a: Safety, b: Safety) -> Safety {
    match (a, b) {
        (Safety::Neither, _) | (_, Safety::Neither) => Safety::Neither,
        (Safety::Idempotent, _) | (_, Safety::Idempotent) => Safety::Idempotent,
        (Safety::ReadOnly, Safety::ReadOnly) => Safety::ReadOnly,
    }
}
