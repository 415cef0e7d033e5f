//! Plays a turn on the real machine: a client's request, what providers and tools say, and the rows that follow.

use std::sync::Arc;

use everstate_dialects::responses::request::{CreateRequest, InputItem, ToolSpec, read_create};
use everstate_dialects::responses::voice::{REVISION, Voice, WireEvent};
use everstate_kernel::agent::{Agent, Limits};
use everstate_kernel::delta::{Delta, Finish, Fold, Frame, Opening, ReplyEnd};
use everstate_kernel::event::Append;
use everstate_kernel::ids::{AttemptId, CallId, SessionId};
use everstate_kernel::input::*;
use everstate_kernel::item::{Outcome, Output, Part};
use everstate_kernel::money::{Price, Usage};
use everstate_kernel::plan::{Plan, Why};
use everstate_kernel::policy::Constraints;
use everstate_kernel::state::Session;
use everstate_kernel::tool::{Runs, Tool};
use serde_json::Value;

use crate::encode::{server, tool};
use crate::names::Plain;

#[derive(Clone, Debug)]
pub(crate) enum Row {
    Append(Append),
    Frame(Frame),
}

pub(crate) struct Play {
    pub(crate) session: Session,
    pub(crate) rows: Vec<Row>,
    now: u64,
    seq: u64,
    /// What was shown of the attempt under way.
    shown: Vec<Delta>,
}

impl Play {
    pub(crate) fn new() -> Play {
        let mut play = Play::empty();
        play.feed(Input::Create(Create {
            id: SessionId(1),
            project: "p".to_owned(),
            door: "responses".to_owned(),
            named: false,
            metadata: None,
            inheritance: None,
            epoch: 1,
        }));
        play
    }

    /// Before a session was made.
    pub(crate) fn empty() -> Play {
        Play {
            session: Session::default(),
            rows: Vec::new(),
            now: 1_700_000_000_000,
            seq: 0,
            shown: Vec::new(),
        }
    }

    pub(crate) fn feed(&mut self, input: Input) -> &mut Play {
        self.feed_all(vec![input])
    }

    /// All of it in one append.
    pub(crate) fn feed_all(&mut self, inputs: Vec<Input>) -> &mut Play {
        assert!(self.try_all(inputs), "the story is legal");
        self
    }

    /// False if it was refused: then nothing happened.
    pub(crate) fn try_all(&mut self, inputs: Vec<Input>) -> bool {
        let now = self.now + 1000;
        let shown: Vec<Shown> = self
            .attempt()
            .filter(|_| !self.shown.is_empty())
            .map(|attempt| {
                let mut fold = Fold::default();
                self.shown.iter().for_each(|it| fold.push(it));
                Shown { attempt, outputs: fold.cut(), frames: 1 }
            })
            .into_iter()
            .collect();
        let mut session = self.session.clone();
        let mut append = Append { seq: self.seq + 1, at: now, events: Vec::new() };
        for input in inputs {
            let Ok(events) = session.decide(input, &shown, now) else { return false };
            session.apply(&Append { events: events.clone(), ..append.clone() });
            append.events.extend(events);
        }
        self.now = now;
        if append.events.is_empty() {
            return true;
        }
        self.seq += 1;
        let before = self.attempt();
        self.session = session;
        if self.attempt() != before {
            self.shown.clear();
        }
        self.rows.push(Row::Append(append));
        true
    }

    pub(crate) fn attempt(&self) -> Option<AttemptId> {
        let turn = self.session.live.turn.as_ref()?;
        turn.under_way().last().map(|(id, _)| id)
    }

    /// A client's request; the turn begins.
    pub(crate) fn ask(&mut self, request: &str) -> &mut Play {
        let request = read_create(request.as_bytes()).expect("a sound request");
        let begin = begin(&request);
        self.feed(Input::Begin(begin))
    }

    pub(crate) fn placed(&mut self) -> &mut Play {
        let attempt = self.attempt().expect("an attempt is open");
        let plan = Plan {
            offer: "a/global/model".to_owned(),
            provider: "a".to_owned(),
            model: "model-1".to_owned(),
            why: Why::OnlyOne,
            against: Default::default(),
            offers_revision: 1,
            policy_revision: 0,
            others: 0,
            price: Price::default(),
            expected: 1,
            reserved: 1,
            max_output_tokens: None,
            crypto_domain: "a:org".to_owned(),
            prefix: String::new(),
            left_behind: Vec::new(),
            moved_from: None,
            project_budget: None,
        };
        self.feed(Input::Placed { attempt, plan })
    }

    /// How many items the attempt under way has opened.
    pub(crate) fn n_opened(&self) -> u32 {
        self.shown.iter().filter(|it| matches!(it, Delta::Open { .. })).count() as u32
    }

    /// Fragments are shown.
    pub(crate) fn show(&mut self, deltas: &[Delta]) -> &mut Play {
        let attempt = self.attempt().expect("an attempt is under way");
        self.shown.extend_from_slice(deltas);
        self.seq += 1;
        self.rows.push(Row::Frame(Frame { attempt, deltas: deltas.to_vec() }));
        self
    }

    /// The answer is what was shown.
    pub(crate) fn replied(&mut self) -> &mut Play {
        self.replied_as(Finish::Stop)
    }

    pub(crate) fn replied_as(&mut self, finish: Finish) -> &mut Play {
        let mut fold = Fold::default();
        self.shown.iter().for_each(|it| fold.push(it));
        self.replied_with(fold.finish(), finish)
    }

    pub(crate) fn replied_with(&mut self, outputs: Vec<Output>, finish: Finish) -> &mut Play {
        let attempt = self.attempt().expect("an attempt is under way");
        let usage = Usage {
            input: 10,
            cached: 4,
            cache_write: 0,
            output: 5,
            reasoning: 2,
            estimated: false,
        };
        let end = ReplyEnd {
            finish,
            usage,
            tier: Some("default".to_owned()),
            provider_id: None,
            model: None,
        };
        self.feed(Input::Replied { attempt, outputs, end })
    }

    pub(crate) fn failed(&mut self, class: FailureClass) -> &mut Play {
        let attempt = self.attempt().expect("an attempt is under way");
        let failure = Failure {
            class,
            message: "the provider's stream ended without an end".to_owned(),
            status: None,
            code: None,
            retry_after_ms: None,
        };
        self.feed(Input::AttemptFailed { attempt, failure })
    }

    pub(crate) fn returned(&mut self, n: u32, outcome: Outcome, said: &str) -> &mut Play {
        let call = *self.session.live.calls.keys().find(|it| it.n == n).expect("the call is open");
        self.feed(Input::Returned { call, outcome, output: vec![Part::text(said)] })
    }
}

/// The tools of the configuration.
fn configured() -> Vec<Tool> {
    vec![tool("pay", server(true)), tool("balance", server(false))]
}

pub(crate) fn begin(request: &CreateRequest) -> Begin {
    let mut tools = Vec::new();
    for spec in &request.tools {
        match spec {
            ToolSpec::Tool(tool) => tools.push(tool.clone()),
            ToolSpec::Mcp(mcp) => tools.extend(
                configured()
                    .into_iter()
                    .filter(|it| mcp.allowed.as_ref().is_none_or(|by| by.admits(&it.name, false))),
            ),
        }
    }
    let of_server = |_: &str| {
        tools
            .iter()
            .filter(|it| matches!(it.runs, Runs::Server(_)))
            .map(|it| it.name.clone())
            .collect()
    };
    let agent = Agent {
        model: request.model.clone(),
        instructions: request.instructions.clone(),
        tool_choice: request.tool_choice.resolve(of_server),
        tools: tools.clone(),
        sampling: request.sampling.clone(),
        extra: Default::default(),
    };
    let (mut items, mut answers, mut approvals) = (Vec::new(), Vec::new(), Vec::new());
    let named = |wire: &str| {
        let mut parts = wire.split('_').skip(1).map(|it| it.parse().expect("a number"));
        CallId { turn: parts.next().expect("a turn"), n: parts.next().expect("a number") }
    };
    for item in &request.input {
        match item {
            InputItem::New(new) => items.push(new.clone()),
            InputItem::Answer { call_id, output } => answers.push(Answer {
                call: named(call_id),
                outcome: Outcome::Ok,
                output: output.clone(),
            }),
            InputItem::Approval { request_id, approve, reason } => approvals.push(Approval {
                call: named(request_id),
                approve: *approve,
                by: "ann".to_owned(),
                reason: reason.clone(),
            }),
            InputItem::Reference(_) => {}
        }
    }
    let terms = TurnTerms {
        agent: Arc::new(agent),
        limits: Limits::default(),
        constraints: Constraints::default(),
        calls: Calls::Return,
        visible: Visible::AsItGoes,
        caller: if request.background { Caller::Detached } else { Caller::Attached },
        resumable: true,
        voice: REVISION.to_owned(),
        echo: Some(request.echo.clone()),
        trace: None,
        remind_every_ms: None,
        compact: None,
        by: None,
    };
    Begin { items, answers, approvals, terms, when_busy: WhenBusy::Refuse }
}

/// What a client of the turn is told.
pub(crate) fn tell(rows: &[Row], turn: u32, with_frames: bool) -> (Vec<WireEvent>, Value) {
    let mut voice = Voice::new(REVISION, turn).expect("our own revision");
    let mut events = Vec::new();
    for row in rows {
        match row {
            Row::Append(append) => events.extend(voice.hear_append(&Plain, append)),
            Row::Frame(frame) if with_frames => events.extend(voice.hear_frame(&Plain, frame)),
            Row::Frame(_) => {}
        }
    }
    (events, voice.response(&Plain).value())
}

pub(crate) fn open(item: u32, opening: Opening) -> Delta {
    Delta::Open { item, opening, provider_id: None }
}

pub(crate) fn call(item: u32, name: &str, arguments: &str) -> Vec<Delta> {
    vec![
        open(item, Opening::Call { name: name.to_owned() }),
        Delta::Arguments { item, text: arguments.to_owned() },
        close(item),
    ]
}

pub(crate) fn message(item: u32, text: &str) -> Vec<Delta> {
    let (first, second) = text.split_at(text.len() / 2);
    vec![
        open(item, Opening::Message),
        Delta::Text { item, text: first.to_owned() },
        Delta::Text { item, text: second.to_owned() },
        close(item),
    ]
}

pub(crate) fn close(item: u32) -> Delta {
    Delta::Close { item, status: Default::default() }
}
