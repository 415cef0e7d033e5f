//! What a session may begin with when somebody else wrote it down.

use everstate_kernel::event::{Append, Event};
use everstate_kernel::fork::Inheritance;
use everstate_kernel::ids::{ASIDE, CallId, ItemId, SessionId};
use everstate_kernel::import::{check, pack};
use everstate_kernel::item::{Body, Item, Outcome, Part, Reasoning, Role, Sealed, Status};
use everstate_kernel::json::Json;
use everstate_kernel::state::{Call, CallState, Session};
use everstate_kernel::tool::Runs;

fn item(turn: u32, idx: u32, body: Body) -> Item {
    let id = ItemId { turn, idx };
    Item { id, body, status: Status::Completed, provider_id: None, extra: None }
}

fn said(turn: u32, idx: u32) -> Item {
    item(turn, idx, Body::Message { role: Role::User, parts: vec![Part::text("hello")] })
}

fn asked(idx: u32, n: u32) -> Item {
    let call = CallId { turn: 1, n };
    item(1, idx, Body::Call { call, name: "ask".into(), arguments: "{}".into() })
}

fn answered(idx: u32, n: u32) -> Item {
    let call = CallId { turn: 1, n };
    item(1, idx, Body::Result { call, outcome: Outcome::Ok, output: Vec::new() })
}

fn open(n: u32, state: CallState) -> (CallId, Call) {
    let (name, arguments) = ("ask".to_owned(), "{}".to_owned());
    (CallId { turn: 1, n }, Call { name, arguments, runs: Runs::Client, state, step: 1 })
}

fn judged(turn_no: u32, items: Vec<Item>, open: Vec<(CallId, Call)>) -> String {
    judged_with(turn_no, items, open, None)
}

fn judged_with(
    turn_no: u32,
    items: Vec<Item>,
    open: Vec<(CallId, Call)>,
    settings: Option<&str>,
) -> String {
    let inheritance = Inheritance {
        parent: SessionId(1),
        at: 9,
        turn_no,
        lineage: Vec::new(),
        items,
        open,
        doubts: Vec::new(),
        warm: None,
        served: Vec::new(),
        settings: settings.map(|it| Json::parse(it).unwrap()),
        spend_max: None,
    };
    check(&inheritance).err().unwrap_or_else(|| "good".to_owned())
}

#[test]
fn what_can_be_sent_can_be_begun_with() {
    let whole = vec![said(1, 0), asked(1, 1), answered(2, 1), said(2, 0)];
    assert_eq!(judged(2, whole, vec![]), "good");
    let waits = vec![said(1, 0), asked(1, 1)];
    assert_eq!(judged(1, waits, vec![open(1, CallState::WithClient)]), "good");
    assert_eq!(judged(1 << 30, vec![], vec![]), "good");
}

#[test]
fn what_no_session_has_is_refused() {
    let of = |items| judged(2, items, vec![]);
    assert_eq!(judged((1 << 30) + 1, vec![], vec![]), "it counts 1073741825 turns");
    assert_eq!(of(vec![said(3, 0)]), "its item 3:0 has a name that cannot be its own");
    assert_eq!(of(vec![said(1, 0), said(1, 0)]), "its item 1:0 has a name that cannot be its own");
    assert_eq!(judged_with(1, vec![], vec![], Some("{}")), "good");
    for settings in ["[]", "7", "null"] {
        let judged = judged_with(1, vec![], vec![], Some(settings));
        assert_eq!(judged, "its settings are no JSON object");
    }
    let twice = of(vec![said(1, 0), asked(1, 1), answered(2, 1), asked(3, 1), answered(4, 1)]);
    assert!(twice.contains("stands twice"), "{twice}");
    let waits = vec![said(1, 0), asked(1, 1)];
    assert_eq!(
        judged(2, waits, vec![open(1, CallState::Started)]),
        "its call 1/c1 is open and is not a client's"
    );
}

#[test]
fn what_only_a_provider_reads_stays_behind_and_is_counted() {
    let thought = |idx: u32, domain: &str| {
        let sealed = Sealed { domain: domain.into(), content: "x".into() };
        let body = Body::Reasoning(Reasoning { sealed: Some(sealed), ..Reasoning::default() });
        Item { provider_id: Some("rs_theirs".into()), ..item(1, idx, body) }
    };
    let theirs = |it: Item| Item { provider_id: Some("theirs".into()), ..it };
    let reply = Body::Message { role: Role::Assistant, parts: vec![Part::text("hi")] };
    let items = vec![
        theirs(said(1, 0)),
        thought(1, "one"),
        thought(2, "one"),
        thought(3, "two"),
        theirs(item(1, 4, reply)),
        theirs(asked(5, 1)),
        answered(6, 1),
        // A client told of this one.
        theirs(asked(7, ASIDE)),
        answered(8, ASIDE),
    ];
    let created = Event::Created {
        id: SessionId(7),
        project: "p".into(),
        door: "test".into(),
        named: false,
        metadata: None,
        inheritance: Some(Inheritance {
            parent: SessionId(1),
            at: 9,
            turn_no: 1,
            lineage: Vec::new(),
            items,
            open: Vec::new(),
            doubts: Vec::new(),
            warm: None,
            served: Vec::new(),
            settings: None,
            spend_max: None,
        }),
    };
    let luggage =
        pack(&Session::replay([&Append { seq: 1, at: 1, events: vec![created] }])).unwrap();
    assert_eq!(
        luggage.left_behind,
        [
            "sealed reasoning of `one`, 2 items: only their text, if they had any, came along",
            "sealed reasoning of `two`, 1 items: only their text, if they had any, came along",
            "the names that providers had given to 5 items",
        ]
    );
    // What a client called its own message is the client's.
    let names = luggage.inheritance.items.iter().map(|it| it.provider_id.as_deref());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [Some("theirs"), None, None, None, None, None, None, Some("theirs"), None]
    );
}
