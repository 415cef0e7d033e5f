//! Something to ask, and everything that comes back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everstate_kernel::agent::Agent;
use everstate_kernel::delta::{Fold, Piece, ReplyEnd};
use everstate_kernel::ids::{AttemptId, CallId, ItemId, SessionId};
use everstate_kernel::input::Failure;
use everstate_kernel::item::{Body, Item, Outcome, Output, OutputBody, Part, Role, Status};
use everstate_kernel::json::Json;
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use everstate_kernel::tool::{Runs, Tool, ToolChoice};
use everstate_providers::config::ProviderConfig;
use everstate_providers::found::open_offer;
use everstate_providers::kind::{Around, Opened, open};
use futures_util::StreamExt;

/// A configuration, as it stands in a file.
pub(crate) fn config(text: &str) -> ProviderConfig {
    toml::from_str(text).unwrap_or_else(|it| panic!("{it}\n{text}"))
}

pub(crate) fn opened(name: &str, config: &ProviderConfig) -> Opened {
    let env = |name: &str| (name == "TEST_KEY").then(|| KEY.to_owned());
    open(name, config, &Around { env: &env, dir: Path::new(".") }).unwrap()
}

pub(crate) const KEY: &str = "sk-test-1234567890";

pub(crate) fn offer(provider: &str, opened: &Opened) -> Offer {
    open_offer(provider, "model-1", opened.dialect)
}

/// A first step: `said` by the user, with one tool to call.
pub(crate) fn request(said: &str) -> Request {
    let pay = Tool {
        name: "pay".to_owned(),
        description: Some("Pays an invoice.".to_owned()),
        parameters: Some(Json::parse(r#"{"type":"object","properties":{}}"#).unwrap()),
        strict: None,
        runs: Runs::Client,
        extra: None,
    };
    let agent = Agent {
        model: "model-1".to_owned(),
        instructions: Some("Be brief.".to_owned()),
        tools: vec![pay],
        ..Agent::default()
    };
    let message = Body::Message { role: Role::User, parts: vec![Part::text(said)] };
    Request {
        session: SessionId(7),
        attempt: AttemptId { turn: 1, step: 1, attempt: 1 },
        agent: Arc::new(agent),
        tool_choice: ToolChoice::Auto,
        items: vec![item(0, message)],
        n_prefix: 0,
        max_output_tokens: None,
    }
}

/// The step after: the call and its result are there.
pub(crate) fn after_call(request: &Request, name: &str, arguments: &str, output: &str) -> Request {
    let mut next = request.clone();
    let turn = next.attempt.turn;
    let idx = next.items.len() as u32;
    let call = CallId { turn, n: idx };
    next.n_prefix = next.items.len();
    next.attempt.step += 1;
    let (name, arguments) = (name.to_owned(), arguments.to_owned());
    next.items.push(item(idx, Body::Call { call, name, arguments }));
    let output = vec![Part::text(output)];
    next.items.push(item(idx + 1, Body::Result { call, outcome: Outcome::Ok, output }));
    next
}

fn item(idx: u32, body: Body) -> Arc<Item> {
    let id = ItemId { turn: 1, idx };
    Arc::new(Item { id, body, status: Status::Completed, provider_id: None, extra: None })
}

/// An answer that was heard out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) outputs: Vec<Output>,
    pub(crate) n_deltas: usize,
    /// How it ended, or how it did not.
    pub(crate) end: Result<ReplyEnd, Failure>,
}

impl Heard {
    pub(crate) fn text(&self) -> String {
        let texts = self.outputs.iter().filter_map(|it| match &it.body {
            OutputBody::Message { parts } => Some(parts),
            _ => None,
        });
        let parts = texts.flatten().filter_map(|it| match it {
            Part::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        parts.collect()
    }

    pub(crate) fn calls(&self) -> Vec<(&str, &str)> {
        let calls = self.outputs.iter().filter_map(|it| match &it.body {
            OutputBody::Call { name, arguments } => Some((name.as_str(), arguments.as_str())),
            _ => None,
        });
        calls.collect()
    }

    pub(crate) fn failure(&self) -> &Failure {
        self.end.as_ref().expect_err("it should not have ended well")
    }
}

/// Asks, and listens to the end. A test that hangs fails.
pub(crate) async fn ask(opened: &Opened, offer: &Offer, request: &Request) -> Heard {
    tokio::time::timeout(Duration::from_secs(20), listen(opened, offer, request)).await.unwrap()
}

async fn listen(opened: &Opened, offer: &Offer, request: &Request) -> Heard {
    let (mut fold, mut n_deltas) = (Fold::default(), 0);
    let prepared = opened.model.prepare(offer, request).unwrap();
    let mut stream = match opened.model.send(offer, prepared).await {
        Ok(stream) => stream,
        Err(failure) => return Heard { outputs: Vec::new(), n_deltas, end: Err(failure) },
    };
    let mut end = None;
    while let Some(piece) = stream.next().await {
        assert!(end.is_none(), "nothing comes after the end");
        match piece {
            Ok(Piece::Delta(delta)) => {
                fold.push(&delta);
                n_deltas += 1;
            }
            Ok(Piece::End(it)) => end = Some(Ok(it)),
            Err(it) => end = Some(Err(it)),
        }
    }
    let end = end.expect("a stream ends with its end or with a failure");
    let outputs = if end.is_ok() { fold.finish() } else { fold.cut() };
    Heard { outputs, n_deltas, end }
}
