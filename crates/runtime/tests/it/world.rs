//! A host and what surrounds it: models that say what they are told to say, tools that count how often they ran.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::agent::{Agent, Limits};
use everstate_kernel::delta::{Delta, Finish, Opening, Piece, ReplyEnd};
use everstate_kernel::event::Event;
use everstate_kernel::ids::{AttemptId, CallId, Millis, SessionId};
use everstate_kernel::input::{
    Begin, Caller, Calls, Create, Failure, FailureClass, Input, NewItem, TurnTerms, Visible,
    WhenBusy,
};
use everstate_kernel::item::{Body, Outcome, Part, Role};
use everstate_kernel::json::Json;
use everstate_kernel::money::{Price, Usage};
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use everstate_kernel::policy::Constraints;
use everstate_kernel::request::Request;
use everstate_kernel::tool::{Runs, Safety, ServerTool, Tool, ToolChoice};
use everstate_placement::offers::Offers;
use everstate_runtime::host::{Fed, Feed, FeedError, Host, Ports};
use everstate_runtime::market::Market;
use everstate_runtime::ports::{Model, Prepared, ReplyStream, ToolReturn, ToolRun, Tools};
use everstate_runtime::settings::HostSettings;
use futures_util::stream::{self, StreamExt};
use serde_json::json;

use crate::clock::TestClock;
use crate::log::{Disk, Rng};

pub(crate) const SESSION: SessionId = SessionId(7);

/// Everything that outlives a host.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) disk: Disk,
    pub(crate) outside: Outside,
}

impl World {
    pub(crate) fn new() -> World {
        let clock = TestClock::default();
        let disk = Disk::new(&clock);
        World { outside: Outside::new(&clock, &disk), clock, disk }
    }

    /// Another world at the same time.
    pub(crate) fn beside(&self) -> World {
        let disk = Disk::new(&self.clock);
        World { outside: Outside::new(&self.clock, &disk), disk, clock: self.clock.clone() }
    }

    /// Runs a test; then nothing forbidden may have happened outside.
    pub(crate) fn run<T>(&self, test: impl Future<Output = T>) -> T {
        let done = self.clock.run(test);
        let broken = std::mem::take(&mut self.outside.acts.lock().unwrap().broken);
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        done
    }

    /// A host that has not started.
    pub(crate) fn host(&self, no: u32, settings: HostSettings) -> Arc<Host> {
        Host::new(self.ports(no), self.market(no), settings)
    }

    pub(crate) fn ports(&self, no: u32) -> Ports {
        Ports {
            log: self.disk.of(no),
            registry: self.disk.of(no),
            tools: Arc::new(HostOutside { outside: self.outside.clone(), host: no }),
            clock: Arc::new(self.clock.clone()),
            membership: None,
        }
    }

    pub(crate) async fn started(&self, no: u32) -> Arc<Host> {
        let host = self.host(no, HostSettings::default());
        host.start().await.unwrap();
        host
    }

    pub(crate) fn market(&self, no: u32) -> Market {
        let model: Arc<dyn Model> =
            Arc::new(HostOutside { outside: self.outside.clone(), host: no });
        Market {
            offers: Arc::new(Offers::new(vec![offer("one", 1), offer("two", 2)])),
            models: [("one".to_owned(), Arc::clone(&model)), ("two".to_owned(), model)].into(),
            constraints: Constraints::default(),
        }
    }

    /// Waits until nothing is at work.
    pub(crate) async fn quiet(&self, host: &Host) {
        while host.n_live() > 0 {
            self.clock.pause(10).await;
        }
    }
}

pub(crate) fn offer(provider: &str, price: u64) -> Offer {
    Offer {
        id: format!("{provider}/global/m"),
        model: "m".to_owned(),
        upstream_model: "m-1".to_owned(),
        provider: provider.to_owned(),
        dialect: "chat".to_owned(),
        scope: Scope::Global,
        tier: None,
        price: Price {
            input: price * 1_000_000,
            cached: price * 100_000,
            cache_write: 0,
            output: price * 4_000_000,
        },
        context_tokens: 1_000_000,
        output_tokens_max: 10_000,
        can: Capabilities { tools: true, images: true, schema: true, reasoning: true },
        facts: BTreeMap::new(),
        crypto_domain: provider.to_owned(),
        cache_ttl_ms: 300_000,
    }
}

// ---- outside -----------------------------------------------------------------------------

/// What models will say and tools will do, and what was asked of them.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    clock: TestClock,
    disk: Disk,
    pub(crate) acts: Arc<Mutex<Acts>>,
}

#[derive(Debug, Default)]
pub(crate) struct Acts {
    /// What is said next, one for each request; when there is nothing, `ok`.
    pub(crate) lines: VecDeque<Line>,
    /// What tools answer, by name, and after how long; when there is nothing, `ok` at once.
    pub(crate) tools: BTreeMap<String, (Millis, Outcome)>,
    pub(crate) sent: Vec<(AttemptId, String)>,
    pub(crate) n_sending: usize,
    pub(crate) n_sending_max: usize,
    pub(crate) ran: Vec<String>,
    pub(crate) finished: Vec<String>,
    /// What must not happen, and did.
    pub(crate) broken: Vec<String>,
    /// Makes up what nobody has written.
    pub(crate) muse: Option<Rng>,
    /// The provider's code breaks down.
    pub(crate) panics: bool,
    once: BTreeSet<(SessionId, AttemptId)>,
}

/// An answer: pieces, each after a pause.
pub(crate) type Line = Vec<(Millis, Result<Piece, Failure>)>;

impl Outside {
    fn new(clock: &TestClock, disk: &Disk) -> Outside {
        Outside { clock: clock.clone(), disk: disk.clone(), acts: Arc::default() }
    }

    pub(crate) fn says(&self, line: Line) {
        self.acts.lock().unwrap().lines.push_back(line);
    }

    /// What holds whenever the outside is reached. A panic in there would pass for an outcome.
    fn demand(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.acts.lock().unwrap().broken.push(what());
        }
    }

    pub(crate) fn tool(&self, name: &str, after_ms: Millis, outcome: Outcome) {
        self.acts.lock().unwrap().tools.insert(name.to_owned(), (after_ms, outcome));
    }
}

pub(crate) fn text(words: &[&str]) -> Line {
    let mut pieces = vec![open(0, Opening::Message)];
    pieces.extend(
        words.iter().map(|it| Piece::Delta(Delta::Text { item: 0, text: (*it).to_owned() })),
    );
    pieces.push(close(0));
    pieces.push(end());
    pieces.into_iter().map(|it| (5, Ok(it))).collect()
}

pub(crate) fn calls(names: &[&str]) -> Line {
    let mut pieces = Vec::new();
    for (item, name) in (0..).zip(names) {
        pieces.push(open(item, Opening::Call { name: (*name).to_owned() }));
        pieces.push(Piece::Delta(Delta::Arguments { item, text: "{}".to_owned() }));
        pieces.push(close(item));
    }
    pieces.push(end());
    pieces.into_iter().map(|it| (5, Ok(it))).collect()
}

pub(crate) fn fails(class: FailureClass) -> Line {
    vec![(5, Err(failure(class)))]
}

pub(crate) fn failure(class: FailureClass) -> Failure {
    Failure { class, message: "no".to_owned(), status: None, code: None, retry_after_ms: None }
}

pub(crate) fn open(item: u32, opening: Opening) -> Piece {
    Piece::Delta(Delta::Open { item, opening, provider_id: None })
}

pub(crate) fn close(item: u32) -> Piece {
    Piece::Delta(Delta::Close { item, status: Default::default() })
}

pub(crate) fn end() -> Piece {
    let usage = Usage { input: 10, output: 5, ..Usage::default() };
    Piece::End(ReplyEnd { finish: Finish::Stop, usage, tier: None, provider_id: None, model: None })
}

/// Something a model might say.
fn improvise(muse: &mut Rng) -> Line {
    let tools = ["look", "book", "pay", "ask"];
    let mut line = match muse.below(10) {
        0..=3 => text(&["a", "b", "c", "d", "e"]),
        4..=7 => {
            let names: Vec<&str> =
                (0..=muse.below(3)).map(|_| tools[muse.below(4) as usize]).collect();
            calls(&names)
        }
        8 => fails(FailureClass::Overloaded),
        _ => fails(FailureClass::RateLimited),
    };
    for (pause, _) in &mut line {
        *pause = muse.below(30);
    }
    if muse.percent(10) {
        // It stops in the middle.
        let n_pieces = line.len();
        line.truncate(muse.below(n_pieces as u64) as usize);
    }
    line
}

/// The same outside as one host reaches it. It knows what must be on the log before it is reached.
#[derive(Debug)]
struct HostOutside {
    outside: Outside,
    host: u32,
}

#[async_trait]
impl Model for HostOutside {
    fn prepare(&self, offer: &Offer, request: &Request) -> Result<Prepared, Failure> {
        assert!(!self.outside.acts.lock().unwrap().panics, "told to panic");
        let body = json!({
            "session": request.session, "attempt": request.attempt, "offer": offer.id, "items": request.items.len(),
        });
        Ok(Prepared {
            bytes: Bytes::from(body.to_string()),
            prefix: format!("{:04x}", request.n_prefix),
            left_behind: Vec::new(),
        })
    }

    async fn send(&self, offer: &Offer, prepared: Prepared) -> Result<ReplyStream, Failure> {
        let body: serde_json::Value = serde_json::from_slice(&prepared.bytes).unwrap();
        let session: SessionId = serde_json::from_value(body["session"].clone()).unwrap();
        let attempt: AttemptId = serde_json::from_value(body["attempt"].clone()).unwrap();
        let Outside { clock, disk, acts } = self.outside.clone();
        let demand = |holds, what: &dyn Fn() -> String| self.outside.demand(holds, what);
        let is_placed = disk.has(session, |it| {
            matches!(it, Event::Placed { attempt: placed, plan } if *placed == attempt && plan.offer == offer.id)
        });
        demand(is_placed, &|| format!("a prompt left for {} before `Placed` was there", offer.id));
        let is_fenced = disk.stored().fenced.contains_key(&(self.host, session));
        demand(!is_fenced, &|| format!("host {} asked for a session it had lost", self.host));
        let is_first = acts.lock().unwrap().once.insert((session, attempt));
        demand(is_first, &|| format!("attempt {attempt} of {session} was sent twice"));
        let line = {
            let mut acts = acts.lock().unwrap();
            acts.sent.push((attempt, offer.id.clone()));
            acts.n_sending += 1;
            acts.n_sending_max = acts.n_sending_max.max(acts.n_sending);
            match (acts.lines.pop_front(), &mut acts.muse) {
                (Some(line), _) => line,
                (None, Some(muse)) => improvise(muse),
                (None, None) => text(&["ok"]),
            }
        };
        let quiet = Sending(Some(acts));
        let pieces = stream::unfold((line.into_iter(), clock, quiet), |mut it| async {
            let (pause, piece) = it.0.next()?;
            if pause > 0 {
                it.1.pause(pause).await;
            }
            it.2.spoke();
            Some((piece, it))
        });
        Ok(pieces.boxed())
    }
}

/// Counts requests under way without a first word.
struct Sending(Option<Arc<Mutex<Acts>>>);

impl Sending {
    fn spoke(&mut self) {
        if let Some(acts) = self.0.take() {
            acts.lock().unwrap().n_sending -= 1;
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.spoke();
    }
}

#[async_trait]
impl Tools for HostOutside {
    async fn run(&self, run: ToolRun) -> ToolReturn {
        let (session, call) = call_of(&run.key);
        let Outside { clock, disk, acts } = &self.outside;
        let is_started = disk.has(
            session,
            |it| matches!(it, Event::ToolStarted { call: started } if *started == call),
        );
        let demand = |holds, what: &dyn Fn() -> String| self.outside.demand(holds, what);
        demand(is_started, &|| format!("{} ran before the log said so", run.key));
        let is_fenced = disk.stored().fenced.contains_key(&(self.host, session));
        demand(!is_fenced, &|| format!("host {} ran {}, which it had lost", self.host, run.key));
        let is_again = acts.lock().unwrap().ran.contains(&run.key);
        let may_run = !is_again || run.server.safety != Safety::Neither;
        demand(may_run, &|| format!("{} must not be run twice, and was", run.key));
        let (pause, outcome) = {
            let mut acts = acts.lock().unwrap();
            acts.ran.push(run.key.clone());
            match (acts.tools.get(&run.name).copied(), &mut acts.muse) {
                (Some(scripted), _) => scripted,
                (None, Some(muse)) => {
                    let outcome = if muse.percent(10) { Outcome::Failed } else { Outcome::Ok };
                    (muse.below(80), outcome)
                }
                (None, None) => (0, Outcome::Ok),
            }
        };
        clock.pause(pause).await;
        acts.lock().unwrap().finished.push(run.key);
        ToolReturn { outcome, output: vec![Part::text("done")] }
    }
}

fn call_of(key: &str) -> (SessionId, CallId) {
    let (session, call) = key.split_once('/').unwrap();
    let (turn, n) = call.split_once("/c").unwrap();
    (session.parse().unwrap(), CallId { turn: turn.parse().unwrap(), n: n.parse().unwrap() })
}

// ---- inputs ------------------------------------------------------------------------------

pub(crate) fn create(session: SessionId) -> Input {
    Input::Create(Create {
        id: session,
        project: "p".to_owned(),
        door: "test".to_owned(),
        named: false,
        metadata: None,
        inheritance: None,
        epoch: 0,
    })
}

pub(crate) fn terms() -> TurnTerms {
    let server = |name: &str, safety, approval| Tool {
        name: name.to_owned(),
        description: None,
        parameters: None,
        strict: None,
        runs: Runs::Server(ServerTool {
            label: "everstate".to_owned(),
            safety,
            approval,
            timeout_ms: 60_000,
        }),
        extra: None,
    };
    let agent = Agent {
        model: "m".to_owned(),
        instructions: None,
        tools: vec![
            server("look", Safety::ReadOnly, false),
            server("book", Safety::Idempotent, false),
            server("pay", Safety::Neither, false),
            server("ask", Safety::Neither, true),
        ],
        tool_choice: ToolChoice::Auto,
        ..Agent::default()
    };
    TurnTerms {
        agent: Arc::new(agent),
        limits: Limits::default(),
        constraints: Constraints::default(),
        calls: Calls::Return,
        visible: Visible::AsItGoes,
        caller: Caller::Detached,
        resumable: true,
        voice: "test/1".to_owned(),
        echo: Some(Json::of(&json!({}))),
        trace: None,
        remind_every_ms: None,
        compact: None,
        by: None,
    }
}

pub(crate) fn begin(terms: TurnTerms) -> Input {
    begin_with("hello", terms)
}

pub(crate) fn begin_with(text: &str, terms: TurnTerms) -> Input {
    let body = Body::Message { role: Role::User, parts: vec![Part::text(text)] };
    Input::Begin(Begin {
        items: vec![NewItem { body, provider_id: None, extra: None }],
        answers: Vec::new(),
        approvals: Vec::new(),
        terms,
        when_busy: WhenBusy::Refuse,
    })
}

pub(crate) fn key(key: &str) -> Feed {
    Feed { key: Some(key.to_owned()) }
}

/// Makes a session and begins a turn in one append.
pub(crate) async fn say(host: &Host, terms: TurnTerms) -> Result<Fed, FeedError> {
    host.feed(SESSION, vec![create(SESSION), begin(terms)], Feed::default()).await
}
