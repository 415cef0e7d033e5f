//! A host over a store in a folder, a model that says what it is told to, tools that do nothing, and sessions to feed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::agent::Agent;
use everstate_kernel::delta::{Delta, Finish, Opening, Piece, ReplyEnd};
use everstate_kernel::ids::{Millis, SessionId};
use everstate_kernel::input::{
    Begin, Caller, Calls, Create, Failure, Input, NewItem, TurnTerms, Visible, WhenBusy,
};
use everstate_kernel::item::{Body, Outcome, Part, Role};
use everstate_kernel::json::Json;
use everstate_kernel::money::{Price, Usage};
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use everstate_kernel::policy::Constraints;
use everstate_kernel::request::Request;
use everstate_kernel::tool::{Runs, Safety, ServerTool, Tool};
use everstate_placement::offers::Offers;
use everstate_runtime::host::{Feed, Host, Ports};
use everstate_runtime::market::Market;
use everstate_runtime::ports::{Clock, Model, Prepared, ReplyStream, ToolReturn, ToolRun, Tools};
use everstate_runtime::settings::HostSettings;
use everstate_store::open::{Settings, Store, open};
use futures_util::StreamExt;
use futures_util::stream;

/// The tool that sessions here may call.
pub(crate) const TOOL: &str = "work";

pub(crate) async fn store(folder: &Path) -> Store {
    let url = format!("sqlite:{}", folder.join("state.db").display());
    open(&url, Settings::default()).await.unwrap()
}

/// A host that has started. Each of the models is sold by a provider of its name.
pub(crate) async fn host(
    store: &Store,
    models: &[(&str, Says)],
    tools: Arc<dyn Tools>,
) -> Arc<Host> {
    let host = unstarted(store, models, tools);
    host.start().await.unwrap();
    host
}

pub(crate) fn unstarted(
    store: &Store,
    models: &[(&str, Says)],
    tools: Arc<dyn Tools>,
) -> Arc<Host> {
    let ports = Ports {
        log: Arc::clone(&store.log),
        registry: Arc::clone(&store.registry),
        tools,
        clock: Arc::new(WallClock { began: Instant::now() }),
        membership: None,
    };
    let sold = models.iter().map(|(name, says)| {
        let model: Arc<dyn Model> =
            Arc::new(Parrot { says: says.clone(), said: AtomicU64::new(0) });
        ((*name).to_owned(), model)
    });
    let market = Market {
        offers: Arc::new(Offers::new(models.iter().map(|(name, _)| offer(name)).collect())),
        models: sold.collect(),
        constraints: Constraints::default(),
    };
    Host::new(ports, market, HostSettings::default())
}

pub(crate) fn offer(model: &str) -> Offer {
    Offer {
        id: format!("{model}/global/{model}"),
        model: model.to_owned(),
        upstream_model: model.to_owned(),
        provider: model.to_owned(),
        dialect: "responses".to_owned(),
        scope: Scope::Global,
        tier: None,
        price: Price { input: 2_500_000, cached: 250_000, cache_write: 0, output: 10_000_000 },
        context_tokens: 10_000_000,
        output_tokens_max: 100_000,
        can: Capabilities { tools: true, images: true, schema: true, reasoning: true },
        facts: Default::default(),
        crypto_domain: model.to_owned(),
        cache_ttl_ms: 300_000,
    }
}

/// Session number `n`: ids spread like random ones, and are the same each time.
pub(crate) fn session(n: u64) -> SessionId {
    SessionId(u128::from(mix(n)) << 64 | u128::from(mix(!n)))
}

pub(crate) fn create(id: SessionId) -> Input {
    Input::Create(Create {
        id,
        project: "default".to_owned(),
        door: "responses".to_owned(),
        named: false,
        metadata: None,
        inheritance: None,
        epoch: 0,
    })
}

/// How a turn is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// The client runs the tool, and the turn waits for it.
    Client,
    /// We run it.
    Server,
}

pub(crate) fn begin(model: &str, said: String, runner: Runner, resumable: bool) -> Begin {
    let server = ServerTool {
        label: "everstate".to_owned(),
        safety: Safety::Idempotent,
        approval: false,
        timeout_ms: 30_000,
    };
    let tool = Tool {
        name: TOOL.to_owned(),
        description: None,
        parameters: Some(Json::parse(r#"{"type":"object"}"#).unwrap()),
        strict: None,
        runs: if runner == Runner::Client { Runs::Client } else { Runs::Server(server) },
        extra: None,
    };
    Begin {
        items: vec![message(said)],
        answers: Vec::new(),
        approvals: Vec::new(),
        terms: TurnTerms {
            agent: Arc::new(Agent {
                model: model.to_owned(),
                tools: vec![tool],
                ..Agent::default()
            }),
            limits: Default::default(),
            constraints: Constraints::default(),
            calls: if runner == Runner::Client { Calls::Hold } else { Calls::Return },
            visible: Visible::AsItGoes,
            caller: Caller::Detached,
            resumable,
            voice: "responses/1".to_owned(),
            echo: None,
            trace: None,
            remind_every_ms: None,
            compact: None,
            by: None,
        },
        when_busy: WhenBusy::Steer,
    }
}

pub(crate) fn message(said: String) -> NewItem {
    let body = Body::Message { role: Role::User, parts: vec![Part::text(said)] };
    NewItem { body, provider_id: None, extra: None }
}

pub(crate) async fn feed(host: &Host, id: SessionId, inputs: Vec<Input>) {
    host.feed(id, inputs, Feed::default()).await.unwrap();
}

/// Waits until nothing is at work.
pub(crate) async fn quiet(host: &Host) {
    while host.n_live() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// ---- texts -------------------------------------------------------------------------------

const WORDS: [&str; 64] = [
    "the",
    "order",
    "was",
    "paid",
    "twice",
    "and",
    "customer",
    "asks",
    "for",
    "a",
    "refund",
    "of",
    "second",
    "charge",
    "please",
    "look",
    "at",
    "invoice",
    "number",
    "before",
    "you",
    "answer",
    "tool",
    "said",
    "that",
    "account",
    "has",
    "been",
    "closed",
    "since",
    "last",
    "week",
    "region",
    "central",
    "server",
    "returned",
    "an",
    "error",
    "with",
    "code",
    "in",
    "step",
    "three",
    "retry",
    "later",
    "model",
    "will",
    "summarise",
    "report",
    "which",
    "contains",
    "figures",
    "from",
    "quarter",
    "shipping",
    "address",
    "changed",
    "to",
    "new",
    "street",
    "is",
    "not",
    "known",
    "yet",
];

/// So many bytes of something like prose, never the same twice: it compresses to about a third.
pub(crate) fn text(seed: u64, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes + 24);
    let mut n = seed.wrapping_mul(1_000_003);
    while out.len() < bytes {
        n = n.wrapping_add(1);
        let draw = mix(n);
        out.push_str(WORDS[draw as usize % 64]);
        if draw >> 60 == 0 {
            out.push_str(&format!(" {}", draw >> 40 & 0xffff));
        }
        out.push(' ');
    }
    out.truncate(bytes);
    out
}

/// So many letters and digits without any pattern: they compress to three quarters.
pub(crate) fn noise(seed: u64, bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let draw = |n: usize| mix(seed.wrapping_mul(1_000_003).wrapping_add(n as u64 / 10));
    (0..bytes).map(|n| LETTERS[(draw(n) >> (6 * (n % 10))) as usize & 63] as char).collect()
}

fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

// ---- outside -----------------------------------------------------------------------------

/// What a model says to everything.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// So many bytes of prose, or of noise.
    Text(usize),
    Noise(usize),
    /// Calls the tool.
    Call,
    /// A first word, and then nothing more.
    Stops,
    /// As the first one, telling each time it is asked.
    Told(Arc<AtomicU64>),
}

#[derive(Debug)]
struct Parrot {
    says: Says,
    said: AtomicU64,
}

#[async_trait]
impl Model for Parrot {
    fn prepare(&self, _: &Offer, request: &Request) -> Result<Prepared, Failure> {
        let bytes = Bytes::from(request.attempt.to_string());
        Ok(Prepared { bytes, prefix: "0".repeat(64), left_behind: Vec::new() })
    }

    async fn send(&self, _: &Offer, _: Prepared) -> Result<ReplyStream, Failure> {
        let n = self.said.fetch_add(1, Ordering::Relaxed);
        let (opening, said) = match &self.says {
            Says::Text(bytes) => (Opening::Message, text_delta(text(n, *bytes))),
            Says::Noise(bytes) => (Opening::Message, text_delta(noise(n, *bytes))),
            Says::Call => {
                let arguments = Delta::Arguments { item: 0, text: "{}".to_owned() };
                (Opening::Call { name: TOOL.to_owned() }, arguments)
            }
            Says::Stops => {
                let deltas = [open_delta(Opening::Message), text_delta("Well".to_owned())];
                let pieces = stream::iter(deltas.map(|it| Ok(Piece::Delta(it))));
                return Ok(pieces.chain(stream::pending()).boxed());
            }
            Says::Told(asked) => {
                asked.fetch_add(1, Ordering::Relaxed);
                (Opening::Message, text_delta("done".to_owned()))
            }
        };
        let usage = Usage { input: 100, output: 50, ..Usage::default() };
        let end =
            ReplyEnd { finish: Finish::Stop, usage, tier: None, provider_id: None, model: None };
        let pieces = vec![
            Ok(Piece::Delta(open_delta(opening))),
            Ok(Piece::Delta(said)),
            Ok(Piece::Delta(Delta::Close { item: 0, status: Default::default() })),
            Ok(Piece::End(end)),
        ];
        Ok(stream::iter(pieces).boxed())
    }
}

fn open_delta(opening: Opening) -> Delta {
    Delta::Open { item: 0, opening, provider_id: None }
}

fn text_delta(text: String) -> Delta {
    Delta::Text { item: 0, text }
}

/// Tools that count how often they were run, and return or never do.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    pub(crate) runs: AtomicU64,
    pub(crate) hang: bool,
}

#[async_trait]
impl Tools for Hands {
    async fn run(&self, _: ToolRun) -> ToolReturn {
        self.runs.fetch_add(1, Ordering::Relaxed);
        if self.hang {
            std::future::pending::<()>().await;
        }
        ToolReturn { outcome: Outcome::Ok, output: vec![Part::text("done")] }
    }
}

#[derive(Debug)]
struct WallClock {
    began: Instant,
}

#[async_trait]
impl Clock for WallClock {
    fn now(&self) -> Millis {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis
    }

    async fn sleep_until(&self, at: Millis) {
        tokio::time::sleep(Duration::from_millis(at.saturating_sub(self.now()))).await;
    }

    fn monotonic(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    async fn pause(&self, ms: Millis) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

// ---- the errand --------------------------------------------------------------------------

/// `fill FOLDER SESSIONS`: sessions with one turn each, which has ended.
pub(crate) fn fill(arguments: &[String]) {
    let [folder, n] = arguments else { panic!("fill FOLDER SESSIONS") };
    let n: u64 = n.parse().unwrap();
    crate::runtime().block_on(async {
        let store = store(Path::new(folder)).await;
        let host = host(&store, &[("model", Says::Text(200))], Arc::new(Hands::default())).await;
        let one = |at: u64| {
            let host = &host;
            async move {
                let id = session(at);
                let begin = begin("model", text(at, 200), Runner::Client, false);
                feed(host, id, vec![create(id), Input::Begin(begin)]).await;
            }
        };
        stream::iter(0..n).for_each_concurrent(256, one).await;
        quiet(&host).await;
        store.upkeep.close().await.unwrap();
    });
}
