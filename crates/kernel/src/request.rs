//! What a model is asked: built from the state alone, the same every time, and legal by construction.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::agent::{Agent, Format};
use crate::ids::{AttemptId, CallId, ItemId, SessionId};
use crate::item::{Body, Item, Part, Role, Status};
use crate::plan::{Ask, Avoid, Needs};
use crate::state::{Session, Transcript, Turn};
use crate::tool::ToolChoice;

/// One model request, before a dialect gives it its form.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub session: SessionId,
    pub attempt: AttemptId,
    pub agent: Arc<Agent>,
    /// In force for this step: a forced choice holds for a turn's first step only.
    pub tool_choice: ToolChoice,
    /// Every call in here has its result, after it; nothing erased, hidden or incomplete is.
    pub items: Vec<Arc<Item>>,
    /// How many of `items` an earlier request of this session may have carried already: the part a cache can hold.
    pub n_prefix: usize,
    pub max_output_tokens: Option<u64>,
}

impl Session {
    /// The request of an attempt that is wanted; `None` if it is not.
    pub fn request(&self, attempt: AttemptId) -> Option<Request> {
        let turn = self.live.turn.as_ref()?;
        let state = self.live.attempt(attempt)?;
        let (agent, items) = self.said_to(turn, attempt)?;
        let n_prefix = items.iter().rposition(|it| is_models(it)).map_or(0, |at| at + 1);
        let tool_choice =
            if attempt.is_aside() { agent.tool_choice.clone() } else { turn.tool_choice() };
        Some(Request {
            session: self.id()?,
            attempt,
            tool_choice,
            max_output_tokens: state
                .plan
                .as_ref()
                .map_or(agent.sampling.max_output_tokens, |it| it.max_output_tokens),
            agent,
            items,
            n_prefix,
        })
    }

    /// What has to be known to place an attempt that is wanted; `None` if it is not.
    pub fn ask(&self, attempt: AttemptId) -> Option<Ask> {
        let turn = self.live.turn.as_ref()?;
        self.live.attempt(attempt)?;
        let (agent, items) = self.said_to(turn, attempt)?;
        let bytes: u64 = items.iter().map(|it| item_bytes(it)).sum::<u64>() + agent_bytes(&agent);
        let failed = if attempt.is_aside() { &turn.sums_failed } else { &turn.failed };
        let failed = failed.iter().filter_map(|(offer, failure)| {
            let again = if failure.class.later() { Avoid::Failed } else { Avoid::Hopeless };
            offer.clone().map(|it| (it, again))
        });
        let in_use = turn
            .attempts
            .values()
            .filter_map(|it| it.plan.as_ref())
            .map(|it| (it.offer.clone(), Avoid::InUse));
        Some(Ask {
            attempt,
            model: agent.model.clone(),
            constraints: turn.terms.constraints.clone(),
            needs: Needs {
                tools: !agent.tools.is_empty(),
                images: items.iter().any(|it| has_image(it)),
                schema: matches!(agent.sampling.format, Some(Format::JsonSchema { .. })),
                input_tokens: bytes.div_ceil(4),
                max_output_tokens: agent.sampling.max_output_tokens,
            },
            warm: self.live.warm.clone(),
            avoid: failed.chain(in_use).collect(),
            budget: self.live.turn_left().into_iter().chain(self.live.session_left()).min(),
            // A summary is read from the cache that the steps before it have warmed.
            in_tool_loop: turn.step > 1 || attempt.is_aside(),
        })
    }

    /// To whom an attempt speaks, and of what.
    fn said_to(&self, turn: &Turn, attempt: AttemptId) -> Option<(Arc<Agent>, Vec<Arc<Item>>)> {
        let agent = &turn.terms.agent;
        if !attempt.is_aside() {
            let mut items = self.transcript.sent();
            if matches!(items.first().map(|it| &it.body), Some(Body::Compaction { .. }))
                && !items.iter().any(|it| is_users(it))
            {
                // Some providers take no request in which nobody has said anything.
                items.insert(1, Arc::new(asked(turn, GO_ON)));
            }
            return Some((Arc::clone(agent), items));
        }
        self.transcript.summed_through?;
        let mut items = self.transcript.sent();
        items.push(Arc::new(asked(turn, SUM_UP)));
        Some((Arc::new(summarizer(agent)), items))
    }
}

/// Asked of a model that sums up. The one who reads the summary sees nothing else of what was said.
const SUM_UP: &str = "Stop here for a moment: all of the above will be replaced by a summary, which you write now. \
    Whoever goes on with the task will see that summary and nothing else of it. Say what the task is and what was asked \
    for, in the words that matter; what was decided, and why; what was done and found out, with names, numbers and places \
    exactly as they are; what failed; and what is to be done next. Call no tools and answer no questions. Write only the \
    summary.";

/// Said where nothing else would be said by a user.
const GO_ON: &str = "Go on with the task.";

/// Part of one request, and not of the transcript.
fn asked(turn: &Turn, text: &str) -> Item {
    Item {
        id: ItemId { turn: turn.no, idx: u32::MAX },
        body: Body::Message { role: Role::User, parts: vec![Part::text(text)] },
        status: Status::Completed,
        provider_id: None,
        extra: None,
    }
}

/// The agent, so that its prompt is found in the cache; free in how it answers, and without calling anything.
fn summarizer(agent: &Agent) -> Agent {
    let mut agent = agent.clone();
    agent.tool_choice = if agent.tools.is_empty() { ToolChoice::Auto } else { ToolChoice::None };
    agent.sampling.format = None;
    agent.sampling.max_output_tokens = None;
    agent
}

fn is_users(item: &Item) -> bool {
    matches!(&item.body, Body::Message { role: Role::User, .. })
}

impl Turn {
    fn tool_choice(&self) -> ToolChoice {
        let choice = &self.terms.agent.tool_choice;
        match choice {
            ToolChoice::Required | ToolChoice::Named(_) if self.step > 1 => ToolChoice::Auto,
            ToolChoice::Allowed { names, .. } if self.step > 1 => {
                ToolChoice::Allowed { names: names.clone(), required: false }
            }
            ToolChoice::Auto
            | ToolChoice::None
            | ToolChoice::Required
            | ToolChoice::Named(_)
            | ToolChoice::Allowed { .. } => choice.clone(),
        }
    }

    /// May the model call this tool in this step? It may disobey its request.
    pub(crate) fn may_call(&self, name: &str) -> bool {
        match self.tool_choice() {
            ToolChoice::Auto | ToolChoice::Required => true,
            ToolChoice::None => false,
            ToolChoice::Named(only) => only == name,
            ToolChoice::Allowed { names, .. } => names.iter().any(|it| it == name),
        }
    }
}

impl Transcript {
    /// What is said to a model: from the newest summary on, nothing hidden, erased or incomplete, each call with its
    /// result. What was said between a call and its result comes after the result: providers refuse anything else.
    pub fn sent(&self) -> Vec<Arc<Item>> {
        let shown: Vec<&Arc<Item>> = self
            .entries
            .iter()
            .filter(|it| {
                !it.hidden && it.item.status == Status::Completed && it.item.body != Body::Erased
            })
            .map(|it| &it.item)
            .collect();
        let summary = shown.iter().rfind(|it| matches!(it.body, Body::Compaction { .. }));
        let covered = summary.and_then(|it| match &it.body {
            Body::Compaction { through, .. } => {
                self.entries.iter().position(|entry| entry.item.id == *through)
            }
            Body::Message { .. }
            | Body::Reasoning(_)
            | Body::Call { .. }
            | Body::Result { .. }
            | Body::Note { .. }
            | Body::Opaque { .. }
            | Body::Erased => None,
        });
        let after: BTreeSet<ItemId> =
            self.entries[covered.map_or(0, |it| it + 1)..].iter().map(|it| it.item.id).collect();
        let told: Vec<&Arc<Item>> = shown
            .iter()
            .filter(|it| after.contains(&it.id) && !matches!(it.body, Body::Compaction { .. }))
            .copied()
            .collect();
        let called: BTreeSet<CallId> = told.iter().filter_map(|it| call(it)).collect();
        let answered: BTreeSet<CallId> = told.iter().filter_map(|it| result(it)).collect();

        let mut sent: Vec<Arc<Item>> = summary.map(|it| Arc::clone(it)).into_iter().collect();
        let mut open = BTreeSet::new();
        let mut deferred = Vec::new();
        for item in told {
            if let Some(id) = call(item) {
                if answered.contains(&id) {
                    open.insert(id);
                    sent.push(Arc::clone(item));
                }
            } else if let Some(id) = result(item) {
                if called.contains(&id) && open.remove(&id) {
                    sent.push(Arc::clone(item));
                }
            } else if open.is_empty() || is_models(item) {
                sent.push(Arc::clone(item));
            } else {
                deferred.push(Arc::clone(item));
            }
            if open.is_empty() {
                sent.append(&mut deferred);
            }
        }
        sent.append(&mut deferred);
        sent
    }
}

/// Why no provider would take these items; `None` if they are legal.
pub fn illegal(items: &[Arc<Item>]) -> Option<String> {
    let mut open = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for item in items {
        if item.status == Status::Incomplete {
            return Some(format!("{:?} is incomplete", item.id));
        }
        match &item.body {
            Body::Call { call, .. } if !seen.insert(*call) => {
                return Some(format!("call {call} stands twice"));
            }
            Body::Call { call, .. } => {
                open.insert(*call);
            }
            Body::Result { call, .. } if !open.remove(call) => {
                return Some(format!("a result of {call} without its call"));
            }
            Body::Erased => return Some(format!("{:?} was erased", item.id)),
            Body::Message { role: Role::User | Role::System | Role::Developer, .. }
            | Body::Note { .. }
                if !open.is_empty() =>
            {
                return Some(format!("{:?} stands between a call and its result", item.id));
            }
            Body::Message { .. }
            | Body::Reasoning(_)
            | Body::Result { .. }
            | Body::Compaction { .. }
            | Body::Note { .. }
            | Body::Opaque { .. } => (),
        }
    }
    open.first().map(|it| format!("call {it} has no result"))
}

fn is_models(item: &Item) -> bool {
    match &item.body {
        Body::Message { role, .. } => *role == Role::Assistant,
        Body::Reasoning(_) | Body::Call { .. } => true,
        Body::Result { .. }
        | Body::Compaction { .. }
        | Body::Note { .. }
        | Body::Opaque { .. }
        | Body::Erased => false,
    }
}

fn call(item: &Item) -> Option<CallId> {
    if let Body::Call { call, .. } = &item.body { Some(*call) } else { None }
}

fn result(item: &Item) -> Option<CallId> {
    if let Body::Result { call, .. } = &item.body { Some(*call) } else { None }
}

fn has_image(item: &Item) -> bool {
    match &item.body {
        Body::Message { parts, .. } | Body::Result { output: parts, .. } => {
            parts.iter().any(|it| matches!(it, Part::Image { .. }))
        }
        Body::Reasoning(_)
        | Body::Call { .. }
        | Body::Compaction { .. }
        | Body::Note { .. }
        | Body::Opaque { .. }
        | Body::Erased => false,
    }
}

/// How many bytes an item's content has, for limits and estimates.
pub(crate) fn item_bytes(item: &Item) -> u64 {
    let content = match &item.body {
        Body::Message { parts, .. }
        | Body::Result { output: parts, .. }
        | Body::Compaction { summary: parts, .. } => parts_bytes(parts),
        Body::Reasoning(it) => {
            let texts: usize = it.summary.iter().chain(&it.content).map(String::len).sum();
            (texts + it.sealed.as_ref().map_or(0, |it| it.content.len())) as u64
        }
        Body::Call { name, arguments, .. } => (name.len() + arguments.len()) as u64,
        Body::Note { text } => text.len() as u64,
        Body::Opaque { json, .. } => json.text().len() as u64,
        Body::Erased => 0,
    };
    content + item.extra.as_ref().map_or(0, |it| it.text().len() as u64)
}

pub(crate) fn parts_bytes(parts: &[Part]) -> u64 {
    let bytes = |part: &Part| match part {
        Part::Text { text, .. } | Part::Refusal { text } => text.len(),
        Part::Image { url, .. } => url.len(),
        Part::Opaque { json, .. } => json.text().len(),
    };
    parts.iter().map(|it| bytes(it) as u64).sum()
}

fn agent_bytes(agent: &Agent) -> u64 {
    let tool = |it: &crate::tool::Tool| {
        it.name.len()
            + it.description.as_ref().map_or(0, String::len)
            + it.parameters.as_ref().map_or(0, |it| it.text().len())
    };
    (agent.instructions.as_ref().map_or(0, String::len)
        + agent.tools.iter().map(tool).sum::<usize>()) as u64
}
