//! Plays a story: each line is an input, what is refused is said, and the end tells what the session wants.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use everstate_kernel::delta::{Finish, ReplyEnd};
use everstate_kernel::effect::Effect;
use everstate_kernel::event::Append;
use everstate_kernel::ids::{AttemptId, CallId, ItemId, SessionId};
use everstate_kernel::input::*;
use everstate_kernel::item::*;
use everstate_kernel::money::Usage;
use everstate_kernel::plan::{NoOffer, OfferSet, Reason};
use everstate_kernel::state::Session;
use everstate_kernel::tool::ToolChoice;

use crate::{story, tools};

struct Play {
    session: Session,
    log: Vec<Append>,
    now: u64,
    terms: TurnTerms,
    shown: Vec<Shown>,
    told: String,
}

pub(super) fn play(story: &str) -> String {
    let mut play = Play {
        session: Session::default(),
        log: Vec::new(),
        now: 1,
        terms: tools::terms(),
        shown: Vec::new(),
        told: String::new(),
    };
    play.create(SessionId(1), None);
    play.told.clear();
    for line in story.lines().map(str::trim).filter(|it| !it.is_empty()) {
        play.line(line);
    }
    let wants: Vec<String> = play.session.effects().iter().map(want).collect();
    let wants = if wants.is_empty() { "nothing".into() } else { wants.join(", ") };
    format!("{}wants: {wants}\n", play.told)
}

fn want(effect: &Effect) -> String {
    match effect {
        Effect::Place(it) => format!("place {it}"),
        Effect::Model(it) => format!("model {it}"),
        Effect::Tool(it) => format!("tool {it}"),
        Effect::Wake(at) => format!("wake at {at}"),
    }
}

impl Play {
    fn create(&mut self, id: SessionId, inheritance: Option<everstate_kernel::fork::Inheritance>) {
        self.session = Session::default();
        self.log.clear();
        self.feed(Input::Create(Create {
            id,
            project: "p".into(),
            door: "story".into(),
            named: false,
            metadata: None,
            inheritance,
            epoch: 1,
        }));
    }

    fn feed(&mut self, input: Input) {
        match self.session.decide(input, &self.shown, self.now) {
            Ok(events) if events.is_empty() => self.told.push_str("  - nothing follows\n"),
            Ok(events) => {
                let seq = self.log.len() as u64 + 1;
                let append = Append { seq, at: self.now, events };
                self.session.apply(&append);
                self.told.push_str(&story::tell(std::slice::from_ref(&append)));
                self.log.push(append);
                let session = &self.session;
                self.shown.retain(|it| session.live.attempt(it.attempt).is_some());
            }
            Err(no) => self.told.push_str(&format!("  - refused: {no:?}\n")),
        }
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once([' ', ':']).unwrap_or((line, ""));
        let rest = rest.trim_start_matches(':').trim();
        match word {
            "terms" => self.set_terms(rest),
            "user" => self.begin(rest, WhenBusy::Refuse),
            "steer" => self.begin(rest, WhenBusy::Steer),
            "supersede" => self.begin(rest, WhenBusy::Supersede),
            "placed" => {
                let offer = rest.split(' ').next().unwrap();
                let plan = tools::plan(offer, u32::from(rest.ends_with("others")));
                let attempt = self.attempt(false);
                self.feed(Input::Placed { attempt, plan });
            }
            "no" => {
                let again_at = rest.rsplit(' ').next().unwrap().parse().ok();
                let mut against = BTreeMap::new();
                if rest.starts_with("budget") {
                    against.insert(Reason::Budget, OfferSet::default());
                }
                if rest.ends_with("too long") {
                    for reason in [Reason::ContextTooSmall, Reason::OtherModel] {
                        against.insert(reason, OfferSet::default());
                    }
                }
                // `no money: 12` is what is left of the project's budget.
                let left = rest.strip_prefix("money: ");
                let no_offer = NoOffer {
                    against,
                    offers_revision: 1,
                    again_at: again_at.filter(|_| left.is_none()),
                    unknown_model: false,
                    project_budget: left.map(|it| it.parse().unwrap()),
                };
                let attempt = self.attempt(false);
                self.feed(Input::NotPlaced { attempt, no_offer });
            }
            "spoke" => {
                let attempt =
                    if rest.is_empty() { self.attempt(true) } else { self.numbered(rest) };
                self.feed(Input::Spoke { attempt });
            }
            "model" => self.model(rest),
            "shown" => {
                let outputs = vec![text(rest)];
                self.shown.push(Shown { attempt: self.attempt(true), outputs, frames: 1 });
            }
            "fail" => {
                let (class, after) = rest.split_once(' ').unwrap_or((rest, ""));
                let class = serde_json::from_value(class.into()).unwrap();
                let retry_after_ms = after.parse().ok();
                let failure = Failure {
                    class,
                    message: "no".into(),
                    status: None,
                    code: None,
                    retry_after_ms,
                };
                let attempt = self.attempt(true);
                self.feed(Input::AttemptFailed { attempt, failure });
            }
            "returned" => {
                let (name, said) = rest.split_once(": ").unwrap();
                let call = self.call(name);
                self.feed(Input::Returned {
                    call,
                    outcome: Outcome::Ok,
                    output: vec![Part::text(said)],
                });
            }
            "answer" => {
                let answers = vec![self.answer(rest)];
                self.feed(Input::Answer { answers });
            }
            "approve" | "deny" => {
                let approval = self.approval(rest, word == "approve");
                self.feed(Input::Approve(approval));
            }
            "crash" => {
                if self.terms.caller == Caller::Attached {
                    self.shown.clear();
                }
                self.session = Session::replay(&self.log);
                let epoch = self.session.live.epoch + 1;
                self.feed(Input::Adopted { epoch });
            }
            "configure" => {
                self.feed(Input::Configure(serde_json::from_str(rest).unwrap()));
            }
            "adopt" => self.feed(Input::Adopted { epoch: rest.parse().unwrap() }),
            "cancel" => {
                let turn = self.turn(rest);
                self.feed(Input::Cancel { turn });
            }
            "hung" => {
                let turn = self.turn(rest.trim_start_matches("up").trim());
                self.feed(Input::CallerLost { turn });
            }
            "wait" => {
                self.now += rest.parse::<u64>().unwrap();
                self.feed(Input::Tick);
            }
            // Nobody is there to look at the clock.
            "later" => self.now += rest.parse::<u64>().unwrap(),
            "compact" => {
                let through = item_id(rest);
                self.feed(Input::Compact { summary: vec![Part::text("in short")], through });
            }
            "erase" => self.feed(Input::Erase { items: vec![item_id(rest)] }),
            "expect" => self.feed(Input::Expect { turn: rest.parse().unwrap() }),
            "park" => self.feed(Input::Park { reason: "a test".into() }),
            "unpark" => self.feed(Input::Unpark),
            "fork" => {
                let inheritance = everstate_kernel::fork::inherit(&self.session).unwrap();
                let names: BTreeSet<ItemId> = inheritance.items.iter().map(|it| it.id).collect();
                assert_eq!(names.len(), inheritance.items.len(), "no name is given twice");
                self.create(SessionId(2), Some(inheritance));
            }
            "import" => {
                let luggage = everstate_kernel::import::pack(&self.session).unwrap();
                let import = crate::world::imported(&self.session, luggage);
                self.session = Session::default();
                self.log.clear();
                self.feed(Input::Import(Box::new(import)));
            }
            "asked" => {
                let request = self.session.request(self.attempt(true)).expect("it is wanted");
                let items: Vec<Item> = request.items.iter().map(|it| (**it).clone()).collect();
                let (agent, choice) = (&request.agent, &request.tool_choice);
                self.told.push_str(&format!(
                    "    asks with {} tools, {choice:?}, {:?}, at most {:?}: {}\n",
                    agent.tools.len(),
                    agent.sampling.format,
                    agent.sampling.max_output_tokens,
                    story::said(&items)
                ));
            }
            "tools" => {
                let request = self.session.request(self.attempt(true)).expect("it is wanted");
                let names: Vec<&str> =
                    request.agent.tools.iter().map(|it| it.name.as_str()).collect();
                self.told.push_str(&format!("    may call: {}\n", names.join(" ")));
            }
            "about" => {
                let about = self.session.about.as_ref().expect("it was created");
                let live = &self.session.live;
                let told = |it: &Option<everstate_kernel::json::Json>| {
                    it.as_ref().map_or("none".to_owned(), |it| it.to_string())
                };
                self.told.push_str(&format!(
                    "    settings {}, metadata {}, spent {} of {:?}\n",
                    told(&about.settings),
                    told(&about.metadata),
                    live.spent,
                    live.spend_max
                ));
            }
            "choice" => {
                let request = self.session.request(self.attempt(true)).expect("it is wanted");
                let (choice, n) = (&request.tool_choice, request.n_prefix);
                let line = format!(
                    "    may choose: {choice:?}; prefix of {n} in {}\n",
                    request.items.len()
                );
                self.told.push_str(&line);
            }
            "ask" => {
                let ask = self.session.ask(self.attempt(false)).expect("it is wanted");
                let (needs, avoid, budget) = (ask.needs, ask.avoid, ask.budget);
                let warm = ask.warm.map(|it| format!("{} with {} tokens", it.offer, it.tokens));
                self.told.push_str(&format!(
                    "    asks: {needs:?}, warm {warm:?}, avoid {avoid:?}, budget {budget:?}, loop {}\n",
                    ask.in_tool_loop
                ));
            }
            "request" => {
                let items: Vec<Item> =
                    self.session.transcript.sent().iter().map(|it| (**it).clone()).collect();
                self.told.push_str(&format!("    would send: {}\n", story::said(&items)));
            }
            _ => panic!("the story says `{line}`, which means nothing"),
        }
    }

    fn set_terms(&mut self, rest: &str) {
        self.terms = tools::terms();
        for word in rest.split(' ') {
            let (name, n) = word.split_once('=').unwrap_or((word, "0"));
            let n: u32 = n.parse().unwrap();
            match name {
                "hold" => self.terms.calls = Calls::Hold,
                "named_read" => self.choose(ToolChoice::Named("read".into())),
                "no_tools" => self.choose(ToolChoice::None),
                "required" => self.choose(ToolChoice::Required),
                "allowed_read" => {
                    self.choose(ToolChoice::Allowed { names: vec!["read".into()], required: true });
                }
                "attempts" => self.terms.limits.attempts_max = n,
                "tokens" => self.terms.limits.tokens_max = n.into(),
                "bytes" => self.terms.limits.bytes_max = n.into(),
                "attached" => {
                    self.terms.caller = Caller::Attached;
                    self.terms.resumable = false;
                }
                "at_end" => self.terms.visible = Visible::AtEnd,
                "hedge" => self.terms.limits.hedge_after_ms = Some(50),
                "steps" => self.terms.limits.steps_max = n,
                "compact" => {
                    self.terms.compact = Some(Compact { at_tokens: n.into() });
                }
                "remind" => self.terms.remind_every_ms = Some(n.into()),
                "calls" => self.terms.limits.calls_max = n,
                "cost" => self.terms.limits.cost_max = Some(n.into()),
                _ => panic!("no such terms: {word}"),
            }
        }
    }

    fn choose(&mut self, choice: ToolChoice) {
        Arc::make_mut(&mut self.terms.agent).tool_choice = choice;
    }

    /// `said; answer ask; approve pay; told read`
    fn begin(&mut self, rest: &str, when_busy: WhenBusy) {
        let mut parts = rest.split("; ");
        let said = parts.next().unwrap();
        let (mut answers, mut approvals) = (Vec::new(), Vec::new());
        let mut items = Vec::new();
        for part in parts {
            let (word, name) = part.split_once(' ').unwrap();
            match word {
                "answer" => answers.push(self.answer(name)),
                "told" => items.extend(history(items.len() as u32, name)),
                "see" => {
                    let image = Part::Image { url: name.into(), detail: None };
                    items.push(new(Body::Message { role: Role::User, parts: vec![image] }));
                }
                _ => approvals.push(self.approval(name, word == "approve")),
            }
        }
        let body = Body::Message { role: Role::User, parts: vec![Part::text(said)] };
        items.push(new(body));
        let terms = self.terms.clone();
        self.feed(Input::Begin(Begin { items, answers, approvals, terms, when_busy }));
    }

    /// `hello`, `call a, broken call b, cut call c`, `#2: hello`
    fn model(&mut self, rest: &str) {
        let (attempt, said) = match rest.strip_prefix('#').and_then(|it| it.split_once(": ")) {
            Some((n, said)) => (self.numbered(n), said),
            None => (self.attempt(true), rest),
        };
        let output = |said: &str| match said.split_once("call ") {
            Some((how, name)) => {
                let arguments = if how == "broken " { "{" } else { "{}" };
                let call = OutputBody::Call { name: name.into(), arguments: arguments.into() };
                let status = if how == "cut " { Status::Incomplete } else { Status::Completed };
                Output { status, ..output(call) }
            }
            None if said == "hm" => output(OutputBody::Reasoning(Reasoning::default())),
            None => text(said),
        };
        let outputs = said.split(", ").map(output).collect();
        let usage = Usage { input: 4, output: 3, ..Usage::default() };
        let end =
            ReplyEnd { finish: Finish::Stop, usage, tier: None, provider_id: None, model: None };
        self.feed(Input::Replied { attempt, outputs, end });
    }

    /// The one that is named, or the newest.
    fn turn(&self, rest: &str) -> u32 {
        if rest.is_empty() { self.session.live.turn_no } else { rest.parse().unwrap() }
    }

    /// The newest attempt that is placed, or is not.
    fn attempt(&self, placed: bool) -> AttemptId {
        let turn = self.session.live.turn.as_ref().expect("a turn runs");
        if let Some(it) = turn.summing.as_ref().filter(|it| it.attempt.plan.is_some() == placed) {
            return it.id;
        }
        let mut attempts = turn.attempts.iter().rev();
        let (&attempt, _) =
            attempts.find(|(_, it)| it.plan.is_some() == placed).expect("there is such an attempt");
        AttemptId { turn: turn.no, step: turn.step, attempt }
    }

    fn numbered(&self, n: &str) -> AttemptId {
        let turn = self.session.live.turn.as_ref().expect("a turn runs");
        let attempt = n.trim_start_matches('#').parse().unwrap();
        AttemptId { turn: turn.no, step: turn.step, attempt }
    }

    /// The newest call of this tool.
    fn call(&self, name: &str) -> CallId {
        let mut entries = self.session.transcript.entries.iter().rev();
        entries
            .find_map(|it| match &it.item.body {
                Body::Call { call, name: it, .. } if it == name => Some(*call),
                _ => None,
            })
            .expect("it was called")
    }

    fn answer(&self, name: &str) -> Answer {
        Answer { call: self.call(name), outcome: Outcome::Ok, output: vec![Part::text("mine")] }
    }

    fn approval(&self, name: &str, approve: bool) -> Approval {
        Approval { call: self.call(name), approve, by: "dana".into(), reason: None }
    }
}

/// What a client tells of an earlier call: the call and its result, the call alone, or with two results.
fn history(n: u32, name: &str) -> Vec<NewItem> {
    let call = CallId { turn: 0, n };
    let (name, n_results) = match name.split_once(' ') {
        Some((name, "alone")) => (name, 0),
        Some((name, "twice")) => (name, 2),
        Some((_, other)) => panic!("no such history: {other}"),
        None => (name, 1),
    };
    let made = Body::Call { call, name: name.into(), arguments: "{}".into() };
    let result = Body::Result { call, outcome: Outcome::Ok, output: vec![Part::text("told")] };
    std::iter::once(made).chain(vec![result; n_results]).map(new).collect()
}

fn new(body: Body) -> NewItem {
    NewItem { body, provider_id: None, extra: None }
}

fn item_id(text: &str) -> ItemId {
    let (turn, idx) = text.split_once(':').unwrap();
    ItemId { turn: turn.parse().unwrap(), idx: idx.parse().unwrap() }
}

fn output(body: OutputBody) -> Output {
    Output { body, status: Status::Completed, provider_id: None, extra: None }
}

fn text(text: &str) -> Output {
    output(OutputBody::Message { parts: vec![Part::text(text)] })
}
