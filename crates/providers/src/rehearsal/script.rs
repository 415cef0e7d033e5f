//! What a rehearsal answers: rules in order, the first that fits is played. `docs/rehearsal.md` explains every field.

use serde::{Deserialize, Serialize};

use crate::rehearsal::scene::Scene;

/// A script. Without any rule that fits, the rehearsal repeats what it was told (see [`echo`](crate::rehearsal)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// When no rule fits: refuse the request, saying what it looked like.
    pub strict: bool,
    /// Before each piece, where a rule says nothing else.
    pub delay_ms: u64,
    pub rules: Vec<Rule>,
}

/// When to answer what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub when: When,

    // What is answered, in this order.
    pub reasoning: Option<String>,
    pub text: Option<String>,
    pub calls: Vec<Call>,
    pub finish: Finish,
    pub usage: Option<Usage>,

    // Or else.
    pub error: Option<Refusal>,

    // What goes wrong on the way.
    pub broken: Option<Broken>,
    /// How many pieces arrive before it goes wrong.
    pub after_pieces: u32,

    // How fast.
    pub first_delay_ms: u64,
    pub delay_ms: Option<u64>,

    /// Nothing is filled in. Not for scripts: set where the words are not a script's own.
    #[serde(skip)]
    pub verbatim: bool,
}

/// All that is said here has to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// The last user message contains this.
    pub says: Option<String>,
    /// The last user message is this.
    pub says_exactly: Option<String>,
    pub instructions: Option<String>,
    pub turn: Option<Nth>,
    pub step: Option<Nth>,
    pub attempt: Option<Nth>,
    /// Are there tool results after the last user message?
    pub results: Option<bool>,
    /// One of those results contains this.
    pub result: Option<String>,
    /// One of those results is of this tool; with `result`, the same one.
    pub result_of: Option<String>,
    /// A tool of this name is offered to the model.
    pub tool: Option<String>,
    pub provider: Option<String>,
    pub offer: Option<String>,
    pub model: Option<String>,
    /// Counts the requests to this provider, from 1. The only thing here that a restart forgets.
    pub request: Option<Nth>,
}

/// A number, or a run of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Nth {
    Only(u64),
    Run(Run),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub from: u64,
    /// Absent: from then on.
    pub times: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub name: String,
    /// A table is sent as JSON; a string is sent as it is, right or wrong.
    #[serde(default)]
    pub arguments: Arguments,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Arguments {
    Raw(String),
    Json(serde_json::Map<String, serde_json::Value>),
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments::Json(serde_json::Map::new())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    #[default]
    Stop,
    Length,
    Filter,
}

/// Tokens. What is not said is estimated: a token for every four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    pub input: Option<u64>,
    pub cached: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub status: u16,
    pub code: Option<String>,
    pub message: Option<String>,
    pub retry_after_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// Nothing more comes, and nothing ends.
    Hang,
    /// The stream ends early, as if all were well.
    Cut,
    /// The connection is lost.
    Reset,
    /// What comes is no event.
    Garbage,
    /// A page for people instead of an answer.
    Html,
}

/// When a whole provider is down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    pub status: u16,
    /// The first request that fails, from 1.
    #[serde(default = "one")]
    pub from: u64,
    /// How many fail; absent: all.
    pub times: Option<u64>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub retry_after_ms: Option<u64>,
}

fn one() -> u64 {
    1
}

impl Outage {
    pub(crate) fn hits(&self, request: u64) -> Option<Refusal> {
        Nth::Run(Run { from: self.from, times: self.times }).is(request).then(|| Refusal {
            status: self.status,
            code: self.code.clone(),
            message: self.message.clone(),
            retry_after_ms: self.retry_after_ms,
        })
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.from == 0 {
            return Err("fail.from is 0: requests are counted from 1".to_owned());
        }
        status(self.status).map_err(|it| format!("fail: {it}"))
    }
}

impl Script {
    /// The first rule that fits.
    pub(crate) fn rule(&self, scene: &Scene) -> Option<&Rule> {
        self.rules.iter().find(|it| it.when.fits(scene))
    }

    pub fn check(&self) -> Result<(), String> {
        if self.delay_ms > DELAY_MS_MAX {
            return Err(format!("delay_ms is more than {DELAY_MS_MAX}"));
        }
        for (n, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|it| format!("rule {}: {it}", n + 1))?;
        }
        Ok(())
    }
}

/// An hour.
const DELAY_MS_MAX: u64 = 3_600_000;

impl Rule {
    fn check(&self) -> Result<(), String> {
        let answers = self.text.is_some() || self.reasoning.is_some() || !self.calls.is_empty();
        if let Some(error) = &self.error {
            if answers || self.broken.is_some() {
                return Err("`error` stands instead of an answer: leave out one".to_owned());
            }
            status(error.status)?;
        } else if !answers && self.broken.is_none() {
            let text =
                "it answers nothing: give it `text`, `reasoning`, `calls`, `error` or `broken`";
            return Err(text.to_owned());
        }
        if self.broken.is_none() && self.after_pieces > 0 {
            return Err("`after_pieces` says when it breaks: `broken` is missing".to_owned());
        }
        if self.first_delay_ms > DELAY_MS_MAX || self.delay_ms.is_some_and(|it| it > DELAY_MS_MAX) {
            return Err(format!("a delay is more than {DELAY_MS_MAX} ms"));
        }
        Ok(())
    }
}

fn status(status: u16) -> Result<(), String> {
    match status {
        400..=599 => Ok(()),
        _ => Err(format!("status {status} is no error: it has to be from 400 to 599")),
    }
}

impl When {
    fn fits(&self, scene: &Scene) -> bool {
        let has = |want: &Option<String>, there: &str| {
            want.as_deref().is_none_or(|it| there.contains(it))
        };
        let is = |want: &Option<String>, there: &str| want.as_deref().is_none_or(|it| it == there);
        let nth = |want: Option<Nth>, there: u64| want.is_none_or(|it| it.is(there));
        let result_fits = self.result.is_none() && self.result_of.is_none()
            || scene
                .results
                .iter()
                .any(|it| has(&self.result, &it.output) && is(&self.result_of, &it.name));
        has(&self.says, &scene.user)
            && is(&self.says_exactly, scene.user.trim())
            && has(&self.instructions, &scene.instructions)
            && nth(self.turn, scene.turn)
            && nth(self.step, scene.step)
            && nth(self.attempt, scene.attempt)
            && self.results.is_none_or(|it| it != scene.results.is_empty())
            && result_fits
            && self.tool.as_ref().is_none_or(|it| scene.tools.contains(it))
            && is(&self.provider, &scene.provider)
            && is(&self.offer, &scene.offer)
            && is(&self.model, &scene.model)
            && nth(self.request, scene.request)
    }
}

impl Nth {
    fn is(self, n: u64) -> bool {
        match self {
            Nth::Only(only) => n == only,
            Nth::Run(Run { from, times }) => {
                n >= from && times.is_none_or(|it| n < from.saturating_add(it))
            }
        }
    }
}
