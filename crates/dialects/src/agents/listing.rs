//! Items and turns of a session as lists tell them: in the order in which they came, without what clients cannot see.
//! Pages and cursors are the door's business.

use std::collections::BTreeMap;

use everstate_kernel::ids::{CallId, ItemId, TurnNo};
use everstate_kernel::item::{Body, Item, Outcome, Part, Role, Status};
use everstate_kernel::json::Json;
use everstate_kernel::state::{CallState, Session};

use crate::agents::object::item::{
    self, Called, Stage, assistant_message, function_call, function_output, server_call, texts,
    user_message,
};
use crate::{ItemKind, Names};

/// An item that clients can see. Its name and its object are made when they are wanted: most of a long list is not.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    item: &'a Item,
    what: What<'a>,
}

#[derive(Clone, Debug)]
enum What<'a> {
    Heard,
    Said { with_calls: bool },
    Thought,
    Called { call: CallId, server: Option<&'a str>, stage: Stage, result: Option<Came<'a>> },
    Came { call: CallId, result: Came<'a> },
}

type Came<'a> = (Outcome, &'a [Part]);

/// The items of a session, or of one turn of it, oldest first. What was heard and not yet said to the model comes last.
pub fn items(session: &Session, of: Option<TurnNo>) -> Vec<Listed<'_>> {
    let transcript = &session.transcript;
    let said = transcript.entries.iter().filter(|it| !it.hidden).map(|it| &*it.item);
    let all: Vec<&Item> = said.chain(transcript.waiting.iter().map(|it| &**it)).collect();
    let results: BTreeMap<CallId, Came<'_>> = all.iter().filter_map(|it| came(it)).collect();
    let mut listed = Vec::new();
    for (i, &item) in all.iter().enumerate() {
        if of.is_some_and(|it| it != item.id.turn) {
            continue;
        }
        let what = match &item.body {
            Body::Message { role: Role::User, .. } => What::Heard,
            Body::Message { role: Role::Assistant, .. } => {
                What::Said { with_calls: item::has_calls(answer(&all, i)) }
            }
            Body::Reasoning(_) => What::Thought,
            // Of an answer that was lost: it was never shown, and nobody was to answer it.
            Body::Call { call, .. }
                if item.status == Status::Incomplete && !results.contains_key(call) =>
            {
                continue;
            }
            Body::Call { call, .. } => What::Called {
                call: *call,
                server: transcript.served.get(call).map(String::as_str),
                stage: stage(session, *call, results.get(call)),
                result: results.get(call).copied(),
            },
            Body::Result { call, outcome, output } => {
                // What a tool of ours brought back stands in its call.
                if transcript.served.contains_key(call) {
                    continue;
                }
                What::Came { call: *call, result: (*outcome, output.as_slice()) }
            }
            Body::Message { role: Role::System | Role::Developer, .. }
            | Body::Compaction { .. }
            | Body::Note { .. }
            | Body::Opaque { .. }
            | Body::Erased => continue,
        };
        listed.push(Listed { item, what });
    }
    listed
}

/// The turns of a session, oldest first.
pub fn turns(session: &Session) -> impl DoubleEndedIterator<Item = TurnNo> {
    session.transcript.turns.keys().copied()
}

fn came(item: &Item) -> Option<(CallId, Came<'_>)> {
    let Body::Result { call, outcome, output } = &item.body else { return None };
    Some((*call, (*outcome, output.as_slice())))
}

fn stage(session: &Session, call: CallId, result: Option<&Came<'_>>) -> Stage {
    match (result, session.live.calls.get(&call).map(|it| it.state)) {
        (Some((outcome, _)), _) => Stage::of_outcome(*outcome),
        (
            None,
            Some(
                CallState::Asked
                | CallState::AwaitingApproval { .. }
                | CallState::Approved
                | CallState::Started
                | CallState::WithClient,
            ),
        ) => Stage::InProgress,
        (None, None) => Stage::Incomplete,
    }
}

/// The items of the answer that the one at `place` belongs to: what a model says stands together.
fn answer<'a>(all: &'a [&'a Item], place: usize) -> impl Iterator<Item = &'a Item> {
    let turn = all[place].id.turn;
    let is_answer = move |it: &&&Item| {
        it.id.turn == turn
            && match &it.body {
                Body::Message { role, .. } => *role == Role::Assistant,
                Body::Reasoning(_) | Body::Call { .. } | Body::Opaque { .. } => true,
                Body::Result { .. }
                | Body::Compaction { .. }
                | Body::Note { .. }
                | Body::Erased => false,
            }
    };
    let before = all[..place].iter().rev().take_while(is_answer);
    let after = all[place..].iter().take_while(is_answer);
    before.chain(after).copied()
}

impl Listed<'_> {
    pub fn id(&self) -> ItemId {
        self.item.id
    }

    /// What the item is called; lists go on after it.
    pub fn name(&self, names: &dyn Names) -> String {
        names.item(self.item.id, self.kind())
    }

    pub fn kind(&self) -> ItemKind {
        match &self.what {
            What::Heard | What::Said { .. } => ItemKind::Message,
            What::Thought => ItemKind::Reasoning,
            What::Called { server: Some(_), .. } => ItemKind::ServerCall,
            What::Called { server: None, .. } => ItemKind::FunctionCall,
            What::Came { .. } => ItemKind::FunctionCallOutput,
        }
    }

    /// The item's object.
    pub fn json(&self, names: &dyn Names) -> Json {
        Json::parse(self.text(names)).expect("written as JSON")
    }

    fn text(&self, names: &dyn Names) -> String {
        let Listed { item, what } = self;
        let stage = Stage::from(item.status);
        match (what, &item.body) {
            (What::Said { with_calls }, Body::Message { parts, .. }) => {
                let phase = item::phase(item, *with_calls);
                assistant_message(names, item.id, stage, phase, texts(parts))
            }
            (What::Thought, Body::Reasoning(it)) => {
                item::reasoning(names, item.id, stage, it.summary.iter().map(String::as_str))
            }
            (What::Called { call, server, stage, result }, Body::Call { name, arguments, .. }) => {
                let called = Called { item: item.id, call: *call, name, arguments };
                match server {
                    Some(label) => server_call(names, called, label, *stage, *result),
                    None => function_call(names, called, *stage),
                }
            }
            (What::Came { call, result: (outcome, output) }, _) => {
                function_output(names, item.id, *call, *outcome, output)
            }
            _ => user_message(names, item).expect("only what a user said is listed as heard"),
        }
    }
}
