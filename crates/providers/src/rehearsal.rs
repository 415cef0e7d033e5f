//! `rehearsal`: a model that is none. It answers from a script, always the same, without key or network. For the
//! demo, for trying things, and for people who test their own agents: `docs/rehearsal.md`.
//!
//! Whatever it says goes the way of a real answer: the request is encoded, the answer comes as bytes of a wire format,
//! and every timeout, limit and break is treated as a server's would be.

pub mod script;
mod echo;
mod play;
mod scene;
mod voice;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use everstate_dialects::upstream::{Dialect, Quirks};
use everstate_kernel::input::{Failure, FailureClass};
use everstate_kernel::money::Price;
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use everstate_kernel::request::Request;
use everstate_runtime::ports::{Model, Prepared, ReplyStream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::compatible::client::{dialect, prepared};
use crate::config::{Timeouts, read};
use crate::kind::{Around, Credentials, Kind, Opened};
use crate::rehearsal::script::{Broken, Outage, Refusal, Rule, Script};
use crate::reply::{self, Listening};
use crate::trouble::failure;

/// What its answers say they come from.
pub const MODEL: &str = "rehearsal";
/// A fact of all its offers.
pub const SIMULATION: &str = "simulation";
/// What it speaks.
const DIALECT: &str = "responses";

/// The kind.
#[derive(Debug)]
pub struct Rehearsal;

/// What a `[providers.NAME]` of this kind may say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The path of a TOML file, or the script itself as a table.
    script: Option<toml::Value>,
    /// When the whole provider is down.
    fail: Option<Outage>,
    #[serde(default)]
    timeouts: Timeouts,
}

impl Kind for Rehearsal {
    fn name(&self) -> &'static str {
        MODEL
    }

    fn about(&self) -> String {
        "a simulation, not a model: answers from a script, without key or network".to_owned()
    }

    fn check(&self, settings: &toml::Table) -> Result<(), String> {
        let settings: Settings = read(settings)?;
        settings.timeouts.check()?;
        settings.fail.as_ref().map_or(Ok(()), Outage::check)?;
        match settings.script {
            Some(toml::Value::Table(table)) => inline(&table).map(drop),
            Some(toml::Value::String(_)) | None => Ok(()),
            Some(_) => Err("`script` is neither the path of a file nor a table".to_owned()),
        }
    }

    fn open(
        &self,
        name: &str,
        settings: &toml::Table,
        around: &Around<'_>,
    ) -> Result<Opened, String> {
        self.check(settings)?;
        let Settings { script, fail, timeouts } = read(settings)?;
        let script = match script {
            Some(toml::Value::Table(table)) => inline(&table)?,
            Some(toml::Value::String(path)) => load(&around.dir.join(path))?,
            Some(_) | None => Script::default(),
        };
        let stage = Stage::new(name, script, fail, timeouts)?;
        Ok(Opened {
            model: Arc::new(stage),
            dialect: DIALECT,
            credentials: Credentials::NotNeeded,
            facts: facts(),
            base_url: None,
        })
    }
}

fn inline(table: &toml::Table) -> Result<Script, String> {
    let script: Script = read(table).map_err(|it| format!("script: {it}"))?;
    script.check().map_err(|it| format!("script: {it}"))?;
    Ok(script)
}

/// Reads a script from its file.
pub fn load(path: &Path) -> Result<Script, String> {
    let shown = path.display();
    let size = std::fs::metadata(path)
        .map_err(|it| format!("cannot read the script `{shown}`: {it}"))?
        .len();
    if size > SCRIPT_BYTES_MAX {
        return Err(format!("the script `{shown}` has more than {SCRIPT_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|it| format!("cannot read the script `{shown}`: {it}"))?;
    let script: Script =
        toml::from_str(&text).map_err(|it| format!("the script `{shown}`: {it}"))?;
    script.check().map_err(|it| format!("the script `{shown}`: {it}"))?;
    Ok(script)
}

/// 4 MiB.
const SCRIPT_BYTES_MAX: u64 = 4 << 20;

/// What is true of every offer of a rehearsal.
pub fn facts() -> BTreeMap<String, bool> {
    BTreeMap::from([(SIMULATION.to_owned(), true)])
}

/// The offer of a rehearsal that nobody configured: it costs nothing, can do everything, and says what it is.
pub fn offer(provider: &str) -> Offer {
    Offer {
        id: format!("{provider}/global/{MODEL}"),
        model: MODEL.to_owned(),
        upstream_model: MODEL.to_owned(),
        provider: provider.to_owned(),
        dialect: DIALECT.to_owned(),
        scope: Scope::Global,
        tier: None,
        price: Price::default(),
        context_tokens: 1_000_000,
        output_tokens_max: 100_000,
        can: Capabilities { tools: true, images: true, schema: true, reasoning: true },
        facts: facts(),
        crypto_domain: provider.to_owned(),
        cache_ttl_ms: 0,
    }
}

/// One configured rehearsal.
#[derive(Debug)]
pub struct Stage {
    name: String,
    script: Script,
    fail: Option<Outage>,
    timeouts: Timeouts,
    dialect: &'static dyn Dialect,
    requests: AtomicU64,
}

impl Stage {
    pub fn new(
        name: &str,
        script: Script,
        fail: Option<Outage>,
        timeouts: Timeouts,
    ) -> Result<Stage, String> {
        let name = name.to_owned();
        let dialect = dialect(DIALECT)?;
        Ok(Stage { name, script, fail, timeouts, dialect, requests: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Model for Stage {
    fn prepare(&self, offer: &Offer, request: &Request) -> Result<Prepared, Failure> {
        let encoded = self.dialect.encode(offer, request, &Quirks::default())?;
        let mut prepared = prepared(encoded);
        let mut body = Vec::from(prepared.bytes);
        scene::mark(&mut body, request);
        prepared.bytes = Bytes::from(body);
        Ok(prepared)
    }

    async fn send(&self, offer: &Offer, prepared: Prepared) -> Result<ReplyStream, Failure> {
        let listening = Listening {
            place: format!("{} (a rehearsal, not a model)", self.name),
            sent: prepared.bytes.len() as u64,
            since: Instant::now(),
            timeouts: self.timeouts.clone(),
            bytes_max: u64::MAX,
            secret: None,
        };
        let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(scene) = scene::read(&prepared.bytes, &self.name, offer, request) else {
            let text = "was sent something that is no JSON object".to_owned();
            return Err(failure(FailureClass::Invalid, format!("{} {text}", listening.place)));
        };
        let outage = self.fail.as_ref().and_then(|it| it.hits(request));
        let rule = self.script.rule(&scene).filter(|_| outage.is_none());
        let arrived = match (outage, rule) {
            (Some(outage), _) => play::refuse(&outage),
            (None, Some(rule)) => {
                hold(rule, &listening).await?;
                play::play(rule, &scene, self.script.delay_ms)
            }
            (None, None) if self.script.strict => play::refuse(&unforeseen(&scene)),
            (None, None) => play::play(&echo::rule(&scene), &scene, self.script.delay_ms),
        };
        reply::read(arrived, self.dialect, offer, listening).await
    }
}

/// Waits before an answer that comes whole; one that comes in pieces waits before its first item.
async fn hold(rule: &Rule, listening: &Listening) -> Result<(), Failure> {
    let is_whole = rule.error.is_some() || rule.broken == Some(Broken::Html);
    let wait = Duration::from_millis(if is_whole { rule.first_delay_ms } else { 0 });
    let (deadline, silence) = listening.deadline(listening.since, false);
    let waited = timeout_at(deadline, sleep(wait)).await;
    waited.map_err(|_| listening.failure(FailureClass::Timeout, &silence))
}

/// What a strict script says when no rule fits: all that a rule could have asked for.
fn unforeseen(scene: &scene::Scene) -> Refusal {
    let results: Vec<_> = scene.results.iter().map(|it| it.name.as_str()).collect();
    let message = format!(
        "no rule of the script fits: turn {}, step {}, attempt {}, request {}, offer {}, results of [{}], user said: {}",
        scene.turn,
        scene.step,
        scene.attempt,
        scene.request,
        scene.offer,
        results.join(", "),
        scene.user,
    );
    Refusal {
        status: 400,
        code: Some("no_rule".to_owned()),
        message: Some(message),
        retry_after_ms: None,
    }
}
