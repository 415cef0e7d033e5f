//! Logs made by the kernel itself, told as people read them.

use std::sync::Arc;

use everstate_kernel::agent::{Agent, Limits};
use everstate_kernel::delta::{Finish, ReplyEnd};
use everstate_kernel::event::Append;
use everstate_kernel::fork::inherit;
use everstate_kernel::ids::{AttemptId, CallId, SessionId};
use everstate_kernel::input::{
    Approval, Begin, Caller, Calls, Create, Failure, FailureClass, Input, NewItem, TurnTerms,
    Visible, WhenBusy,
};
use everstate_kernel::item::{Body, Outcome, Output, OutputBody, Part, Role, Status};
use everstate_kernel::json::Json;
use everstate_kernel::money::{Price, Usage};
use everstate_kernel::plan::{NoOffer, OfferSet, Plan, Reason, Why};
use everstate_kernel::policy::Constraints;
use everstate_kernel::state::Session;
use everstate_kernel::tool::{Runs, Safety, ServerTool, Tool};
use expect_test::{Expect, expect};
use jiff::tz::TimeZone;

use super::{Look, Timeline};

/// A log in the making.
struct Tale {
    session: Session,
    log: Vec<Append>,
    at: u64,
}

impl Tale {
    fn new() -> Tale {
        let mut tale = Tale { session: Session::default(), log: Vec::new(), at: 36_131_000 };
        tale.create(None);
        tale
    }

    fn create(&mut self, inheritance: Option<everstate_kernel::fork::Inheritance>) {
        let id = SessionId(if inheritance.is_some() { 8 } else { 7 });
        self.feed(Input::Create(Create {
            id,
            project: "demo".into(),
            door: "responses".into(),
            named: false,
            metadata: None,
            inheritance,
            epoch: 1,
        }));
    }

    fn feed(&mut self, input: Input) {
        let events = self.session.decide(input, &[], self.at).expect("the tale is legal");
        if !events.is_empty() {
            let append = Append { seq: self.session.head + 1, at: self.at, events };
            self.session.apply(&append);
            self.log.push(append);
        }
    }

    fn wait(&mut self, ms: u64) {
        self.at += ms;
    }

    fn says(&mut self, text: &str, approvals: Vec<Approval>) {
        let items = match text {
            "" => Vec::new(),
            text => vec![NewItem {
                body: Body::Message { role: Role::User, parts: vec![Part::text(text)] },
                provider_id: None,
                extra: None,
            }],
        };
        self.feed(Input::Begin(Begin {
            items,
            answers: Vec::new(),
            approvals,
            terms: terms(),
            when_busy: WhenBusy::Refuse,
        }));
    }

    fn placed(&mut self, step: (u32, u32, u32), offer: &str, why: Why) {
        let (turn, step, attempt) = step;
        let mut refused = OfferSet::default();
        refused.insert(2);
        let mut dearer = OfferSet::default();
        dearer.insert(1);
        let plan = Plan {
            offer: offer.into(),
            provider: offer.split('/').next().unwrap_or_default().into(),
            model: "m".into(),
            why,
            against: [(Reason::Dearer, dearer), (Reason::Constraint("within eu".into()), refused)]
                .into(),
            offers_revision: 1,
            policy_revision: 1,
            others: 1,
            price: Price { input: 2_500_000, cached: 250_000, cache_write: 0, output: 10_000_000 },
            expected: 5_000,
            reserved: 9_000,
            max_output_tokens: None,
            crypto_domain: offer.into(),
            prefix: String::new(),
            left_behind: match why {
                Why::Fallback => vec!["1 sealed reasoning item".into()],
                _ => Vec::new(),
            },
            moved_from: None,
            project_budget: None,
        };
        self.feed(Input::Placed { attempt: AttemptId { turn, step, attempt }, plan });
    }

    fn replies(&mut self, step: (u32, u32, u32), said: &[OutputBody], cached: u64) {
        let (turn, step, attempt) = step;
        let outputs = said.iter().map(|body| Output {
            body: body.clone(),
            status: Status::Completed,
            provider_id: None,
            extra: None,
        });
        let usage = Usage { input: 3_104, cached, output: 118, ..Usage::default() };
        self.feed(Input::Replied {
            attempt: AttemptId { turn, step, attempt },
            outputs: outputs.collect(),
            end: ReplyEnd {
                finish: Finish::Stop,
                usage,
                tier: None,
                provider_id: None,
                model: None,
            },
        });
    }

    fn returned(&mut self, call: (u32, u32), outcome: Outcome, text: &str) {
        let call = CallId { turn: call.0, n: call.1 };
        self.feed(Input::Returned { call, outcome, output: vec![Part::text(text)] });
    }

    fn check(&self, width: usize, expect: Expect) {
        let look = Look { width, color: false, zone: TimeZone::UTC };
        let mut timeline = Timeline::default();
        let lines: Vec<_> = self.log.iter().flat_map(|it| timeline.hear(it)).collect();
        let page = look.page(&timeline, &lines).join("\n");
        assert!(page.is_ascii(), "plain ASCII");
        expect.assert_eq(&page);
    }
}

fn terms() -> TurnTerms {
    let tool = |name: &str, safety, approval| Tool {
        name: name.into(),
        description: None,
        parameters: Some(Json::of(&serde_json::json!({ "type": "object" }))),
        strict: None,
        runs: Runs::Server(ServerTool {
            label: "everstate".into(),
            safety,
            approval,
            timeout_ms: 30_000,
        }),
        extra: None,
    };
    let client = Tool { runs: Runs::Client, ..tool("weather", Safety::ReadOnly, false) };
    TurnTerms {
        agent: Arc::new(Agent {
            model: "m".into(),
            tools: vec![
                tool("list_charges", Safety::ReadOnly, false),
                tool("refund", Safety::Idempotent, true),
                tool("send_mail", Safety::Neither, false),
                client,
            ],
            ..Agent::default()
        }),
        limits: Limits::default(),
        constraints: Constraints::default(),
        calls: Calls::Return,
        visible: Visible::AsItGoes,
        caller: Caller::Detached,
        resumable: true,
        voice: "responses/1".into(),
        echo: None,
        trace: None,
        remind_every_ms: None,
        compact: None,
        by: None,
    }
}

fn call(name: &str, arguments: &str) -> OutputBody {
    OutputBody::Call { name: name.into(), arguments: arguments.into() }
}

fn text(text: &str) -> OutputBody {
    OutputBody::Message { parts: vec![Part::text(text)] }
}

/// The whole story: tools, an approval, a crash in the middle of a call, a move.
fn refund() -> Tale {
    let mut tale = Tale::new();
    tale.says("Order 1182 was charged twice. Put it right.", Vec::new());
    tale.placed((1, 1, 1), "cloud-a/eu/m", Why::Cheapest);
    tale.wait(600);
    tale.replies((1, 1, 1), &[call("list_charges", r#"{"order":"1182"}"#)], 0);
    tale.wait(40);
    tale.returned((1, 1), Outcome::Ok, r#"{"charges":[]}"#);
    tale.placed((1, 2, 1), "cloud-a/eu/m", Why::Warm);
    tale.wait(800);
    tale.replies((1, 2, 1), &[call("refund", r#"{"charge":"ch_2","amount":"49.00 EUR"}"#)], 3_072);
    tale.wait(252_000);
    let call = CallId { turn: 1, n: 2 };
    let reason = Some("second charge is ours".into());
    tale.says("", vec![Approval { call, approve: true, by: "dana".into(), reason }]);
    tale.wait(900);
    tale.feed(Input::Adopted { epoch: 2 });
    tale.wait(300);
    tale.returned((1, 2), Outcome::Ok, "already done, re_77");
    tale.placed((2, 1, 1), "cloud-a/eu/m", Why::Cheapest);
    tale.wait(100);
    tale.feed(Input::AttemptFailed {
        attempt: AttemptId { turn: 2, step: 1, attempt: 1 },
        failure: Failure {
            class: FailureClass::Overloaded,
            message: "cloud-a answered 503: out of capacity".into(),
            status: Some(503),
            code: None,
            retry_after_ms: None,
        },
    });
    tale.placed((2, 1, 2), "cloud-b/eu/m", Why::Fallback);
    tale.wait(2_100);
    tale.replies((2, 1, 2), &[text("I refunded 49.00 EUR, as \u{201c}asked\u{201d}.")], 0);
    tale
}

#[test]
fn the_whole_story() {
    refund().check(110, expect![[r#"
        ses_0000000000000000000000000w   project demo   spent $0.0200   idle, 2 turns, 28 events
        SEQ     TIME  STEP WHAT                                                                                   COST
          2 10:02:11  1    user      "Order 1182 was charged twice. Put it right."
          3 10:02:11  1.1  placed    cloud-a/eu/m   cheapest of 2 allowed, 1 refused
          4 10:02:11       model     3,104 in, 118 out, 0.6 s                                                  $0.0090
          5 10:02:11       tool      list_charges(order=1182)  read-only  ok 40 ms
          6 10:02:11  1.2  stayed    cloud-a/eu/m   cache warm, 1 refused
          7 10:02:12       model     3,104 in (3,072 from cache), 118 out, 0.8 s                               $0.0021
            10:02:12       APPROVAL  refund(charge=ch_2, amount=49.00 EUR)  asks a person, for 90 days
            10:02:12  1    waits     for an answer to refund; 2 steps, 1 tool
                   |        ... waited 4 min 12 s, no money, no memory ...
          8 10:06:24       approved  by dana, "second charge is ours"
            10:06:24       tool      refund(charge=ch_2, amount=49.00 EUR)  sent, key .../1/c2
         -- the server stopped here, in the middle of its work -------------------------------------------------------
          9 10:06:25       adopted   epoch 2, 0.9 s after its last fact
            10:06:25       tool      refund  same key sent again (the tool is idempotent), key .../1/c2
         10 10:06:25       tool      refund  ok 1.2 s: already done, re_77
         11 10:06:25  2.1  stayed    cloud-a/eu/m   cheapest of 2 allowed, 1 refused
         12 10:06:25       failed    cloud-a/eu/m   answered 503: out of capacity
         13 10:06:25       MOVED     cloud-b/eu/m   cloud-a answered 503; left behind: 1 sealed reasoning...
         14 10:06:27       model     3,104 in, 118 out, 2.1 s                                                  $0.0090
            10:06:27  2    done      "I refunded 49.00 EUR, as "asked"."  1 step, 1 tool, 1 approval"#]]);
}

#[test]
fn narrow_lines_keep_their_cost() {
    refund().check(
        72,
        expect![[r#"
        ses_0000000000000000000000000w   project demo   spent $0.0200   idle, 2 turns, 28 events
        SEQ     TIME  STEP WHAT                                             COST
          2 10:02:11  1    user      "Order 1182 was charged twice....
          3 10:02:11  1.1  placed    cloud-a/eu/m   cheapest of 2 al...
          4 10:02:11       model     3,104 in, 118 out, 0.6 s            $0.0090
          5 10:02:11       tool      list_charg...  read-only  ok 40 ms
          6 10:02:11  1.2  stayed    cloud-a/eu/m   cache warm, 1 re...
          7 10:02:12       model     3,104 in (3,072 from cache), 11...  $0.0021
            10:02:12       APPROVAL  refun...  asks a person, for 90 days
            10:02:12  1    waits     for an answer to refund; 2 step...
                   |        ... waited 4 min 12 s, no money, no memory ...
          8 10:06:24       approved  by dana, "second charge is ours"
            10:06:24       tool      refund(char...  sent, key .../1/c2
         -- the server stopped here, in the middle of its work -----------------
          9 10:06:25       adopted   epoch 2, 0.9 s after its last fact
            10:06:25       tool      refund  same key sent again (th...
         10 10:06:25       tool      refund  ok 1.2 s: already done,...
         11 10:06:25  2.1  stayed    cloud-a/eu/m   cheapest of 2 al...
         12 10:06:25       failed    cloud-a/eu/m   answered 503: ou...
         13 10:06:25       MOVED     cloud-b/eu/m   cloud-a answered...
         14 10:06:27       model     3,104 in, 118 out, 2.1 s            $0.0090
            10:06:27  2    done      "I re...  1 step, 1 tool, 1 approval"#]],
    );
}

#[test]
fn doubt_is_said_aloud_and_settled() {
    let mut tale = Tale::new();
    tale.says("Write to everybody.", Vec::new());
    tale.placed((1, 1, 1), "cloud-a/eu/m", Why::OnlyOne);
    tale.replies((1, 1, 1), &[call("send_mail", r#"{"to":"all"}"#)], 0);
    tale.wait(70_000);
    tale.feed(Input::Adopted { epoch: 2 });
    tale.wait(1_000);
    tale.returned((1, 1), Outcome::Ok, "212 mails went out");
    tale.placed((1, 2, 1), "cloud-a/eu/m", Why::Warm);
    tale.wait(5_000);
    tale.feed(Input::Adopted { epoch: 3 });
    tale.feed(Input::Cancel { turn: 1 });
    tale.check(110, expect![[r#"
        ses_0000000000000000000000000w   project demo   spent $0.0140   idle, 1 turn, 19 events
        SEQ     TIME  STEP WHAT                                                                                   COST
          2 10:02:11  1    user      "Write to everybody."
          3 10:02:11  1.1  placed    cloud-a/eu/m   the only one that may serve, 1 refused
          4 10:02:11       model     3,104 in, 118 out, 0 ms                                                   $0.0090
            10:02:11       tool      send_mail(to=all)  sent
         -- the server stopped here, in the middle of its work -------------------------------------------------------
          5 10:03:21       adopted   epoch 2, 1 min 10 s after its last fact
            10:03:21       UNKNOWN   send_mail  may have happened; it is not run again, and the model is told
            10:03:21       settle    everstate effect resolve ses_000000000000/1/c1  --ok or --failed
          6 10:03:22       learned   send_mail  what was unknown is known: ok 212 mails went out
          7 10:03:22  1.2  stayed    cloud-a/eu/m   cache warm, 1 refused
         -- the server stopped here, in the middle of its work -------------------------------------------------------
          8 10:03:27       adopted   epoch 3, 5.0 s after its last fact
            10:03:27       lost      the answer of cloud-a/eu/m; nothing of it had been shown                 ~$0.0050
          9 10:03:27       dropped   a try that had no offer yet
            10:03:27  1    cancelled as asked; 2 steps, 1 tool"#]]);
}

#[test]
fn refusals_forks_and_open_calls() {
    let mut tale = Tale::new();
    tale.says("Rain?", Vec::new());
    tale.placed((1, 1, 1), "cloud-a/eu/m", Why::OnlyOne);
    tale.replies((1, 1, 1), &[call("weather", r#"{"city":"Oslo","days":[1,2]}"#)], 0);
    let inheritance = inherit(&tale.session);
    tale.check(110, expect![[r#"
        ses_0000000000000000000000000w   project demo   spent $0.0090   waiting for its client, 1 turn, 8 events
        SEQ     TIME  STEP WHAT                                                                                   COST
          2 10:02:11  1    user      "Rain?"
          3 10:02:11  1.1  placed    cloud-a/eu/m   the only one that may serve, 1 refused
          4 10:02:11       model     3,104 in, 118 out, 0 ms                                                   $0.0090
            10:02:11       call      weather(city=Oslo, days=[1,2])  for the client to run
            10:02:11  1    waits     for an answer to weather; 1 step"#]]);

    let mut fork = Tale { session: Session::default(), log: Vec::new(), at: tale.at };
    fork.create(inheritance);
    fork.feed(Input::Answer {
        answers: vec![everstate_kernel::input::Answer {
            call: CallId { turn: 1, n: 1 },
            outcome: Outcome::Ok,
            output: vec![Part::text("dry")],
        }],
    });
    fork.says("Thanks.", Vec::new());
    let mut against = OfferSet::default();
    against.insert(0);
    against.insert(1);
    fork.feed(Input::NotPlaced {
        attempt: AttemptId { turn: fork.session.live.turn_no, step: 1, attempt: 1 },
        no_offer: NoOffer {
            against: [(Reason::NoCredentials, against)].into(),
            offers_revision: 1,
            again_at: None,
            unknown_model: false,
            project_budget: None,
        },
    });
    fork.feed(Input::Park { reason: "a row could not be read".into() });
    fork.check(110, expect![[r#"
        ses_00000000000000000000000010   project demo   spent $0.0000   parked, 1 turn, 9 events
        SEQ     TIME  STEP WHAT                                                                                   COST
          1 10:02:11       forked    from ses_0000000000000000000000000w at 4
          2 10:02:11       result    weather  ok: dry
          3 10:02:11  3    user      "Thanks."
          4 10:02:11       NO OFFER  2 offers looked at, none may serve; nothing was sent
            10:02:11  3    FAILED    no_offer: no offer of `m` may or can serve this step (2 no credential...
          5 10:02:11       PARKED    a row could not be read"#]]);
}

#[test]
fn small_words() {
    use super::words::{call, count, money, number, short, span};
    let spans: Vec<String> =
        [7, 950, 9_999, 59_000, 252_000, 11_100_000, 200_000_000].map(span).into();
    assert_eq!(spans, ["7 ms", "0.9 s", "9.9 s", "59 s", "4 min 12 s", "3 h 5 min", "2 days"]);
    let amounts: Vec<String> = [0, 7, 101, 20_600, 12_345_678].map(money).into();
    assert_eq!(amounts, ["$0.0000", "$0.000007", "$0.0002", "$0.0206", "$12.3457"]);
    assert_eq!([number(0), number(999), number(1_000_000)], ["0", "999", "1,000,000"]);
    assert_eq!(
        [count(1, "entry"), count(2, "entry"), count(0, "step")],
        ["1 entry", "2 entries", "0 steps"]
    );
    assert_eq!(short("  a\n\tb\u{2026} ", 80), "a b...");
    assert_eq!(call("f", "not json"), "f(not json)");
}
