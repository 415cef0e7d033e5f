//! The request's input, with every name in it resolved to what it names.

use std::collections::BTreeSet;
use std::sync::Arc;

use everstate_dialects::Names;
use everstate_dialects::responses::request::InputItem;
use everstate_kernel::ids::{CallId, ItemId};
use everstate_kernel::input::{Answer, Approval, NewItem};
use everstate_kernel::item::{Body, Item, Outcome, Part};
use everstate_kernel::state::{CallState, Session};

use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::ids::{Kind, SessionNames};
use crate::keys::Principal;

#[derive(Default)]
pub(super) struct Said {
    pub(super) items: Vec<NewItem>,
    pub(super) answers: Vec<Answer>,
    pub(super) approvals: Vec<Approval>,
}

/// What is continued: as it stood when the response had ended, and as it stands.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) then: &'a Session,
    pub(super) now: &'a Session,
    /// It goes on as itself and not as a fork.
    pub(super) in_place: bool,
}

pub(super) async fn resolve(
    app: &Arc<App>,
    who: &Principal,
    input: &[InputItem],
    from: Option<From<'_>>,
) -> Result<Said> {
    let names = from.and_then(|it| it.then.about.as_ref()).map(|it| app.names(it));
    let base = from.map(|it| it.then).zip(names.as_ref());
    let mut said = Said::default();
    let mut answered: BTreeSet<&str> = BTreeSet::new();
    for (place, item) in input.iter().enumerate() {
        match item {
            InputItem::New(new) => said.items.push(new.clone()),
            InputItem::Answer { call_id, output } => {
                if !answered.insert(call_id) {
                    return Err(ApiError::new(
                        &codes::CALL_ANSWERED,
                        format!("Two outputs for function call {}.", shown(call_id)),
                    )
                    .param(format!("input[{place}]")));
                }
                answer(&mut said, base, call_id, output, place)?;
            }
            InputItem::Approval { request_id, approve, reason } => {
                if !answered.insert(request_id) {
                    return Err(ApiError::new(
                        &codes::APPROVAL_ANSWERED,
                        format!("Two answers to approval request {}.", shown(request_id)),
                    )
                    .param(format!("input[{place}]")));
                }
                let call = approval(from.zip(names.as_ref()), request_id, place)?;
                said.approvals.push(Approval {
                    call,
                    approve: *approve,
                    by: who.name.to_string(),
                    reason: reason.clone(),
                });
            }
            InputItem::Reference(id) => {
                if let Some(item) = reference(app, who, base, id, place).await? {
                    said.items.push(item);
                }
            }
        }
    }
    Ok(said)
}

/// An output is for an open call of the session, or for a call that the request itself tells.
fn answer(
    said: &mut Said,
    base: Option<(&Session, &SessionNames)>,
    call_id: &str,
    output: &[Part],
    place: usize,
) -> Result<()> {
    let told = said.items.iter().find_map(|it| match &it.body {
        Body::Call { call, .. } if it.provider_id.as_deref() == Some(call_id) => Some(*call),
        _ => None,
    });
    if let Some(call) = told {
        said.items.push(NewItem {
            body: Body::Result { call, outcome: Outcome::Ok, output: output.to_vec() },
            provider_id: None,
            extra: None,
        });
        return Ok(());
    }
    let found = base.and_then(|(session, names)| {
        known_calls(session).find(|it| names.call(*it) == call_id).map(|call| (session, call))
    });
    match found {
        Some((session, call)) if session.live.calls.contains_key(&call) => {
            said.answers.push(Answer { call, outcome: Outcome::Ok, output: output.to_vec() });
            Ok(())
        }
        Some(_) => Err(ApiError::new(
            &codes::CALL_ANSWERED,
            format!("Function call {} has its output already.", shown(call_id)),
        )
        .param(format!("input[{place}]"))),
        None => Err(ApiError::new(
            &codes::CALL_NOT_FOUND,
            format!("No tool call found for function call output with call_id {}.", shown(call_id)),
        )
        .param("input")
        .why("an output answers a call of the response that is continued, or of the same input")),
    }
}

fn approval(
    base: Option<(From<'_>, &SessionNames)>,
    request_id: &str,
    place: usize,
) -> Result<CallId> {
    let param = format!("input[{place}]");
    let call = base.and_then(|(from, names)| {
        known_calls(from.then).find(|it| names.approval(*it) == request_id).map(|it| (from, it))
    });
    let Some((from, call)) = call else {
        return Err(ApiError::new(
            &codes::APPROVAL_NOT_FOUND,
            format!("Approval request with id '{}' not found.", shown(request_id)),
        )
        .param(param)
        .why("an approval counts only for a request in our own log: continue with `previous_response_id`"));
    };
    match from.now.live.calls.get(&call).map(|it| it.state) {
        Some(CallState::AwaitingApproval { .. }) if from.in_place => Ok(call),
        Some(CallState::AwaitingApproval { .. }) => Err(ApiError::new(
            &codes::APPROVAL_NOT_FOUND,
            format!(
                "Approval request with id '{}' cannot be answered from here.",
                shown(request_id)
            ),
        )
        .param(param)
        .why("this continues from an earlier place, as a fork, and a fork inherits no approval")),
        _ => Err(ApiError::new(
            &codes::APPROVAL_ANSWERED,
            format!("Approval request with id '{}' has its answer already.", shown(request_id)),
        )
        .param(param)),
    }
}

/// The calls this session knows of, the newest first.
fn known_calls(session: &Session) -> impl Iterator<Item = CallId> {
    let past = session.transcript.entries.iter().rev().filter_map(|it| match &it.item.body {
        Body::Call { call, .. } => Some(*call),
        _ => None,
    });
    session.live.calls.keys().copied().chain(past)
}

/// What an `item_reference` stands for; `None` if the conversation has it already.
async fn reference(
    app: &Arc<App>,
    who: &Principal,
    base: Option<(&Session, &SessionNames)>,
    id: &str,
    place: usize,
) -> Result<Option<NewItem>> {
    let missing = || {
        ApiError::new(&codes::NOT_FOUND, format!("Item with id '{}' not found.", shown(id)))
            .param(format!("input[{place}]"))
            .why("items are found by reference only if they were stored, in this project")
    };
    let name = app.naming.read(&who.project, id).ok_or_else(missing)?;
    if !matches!(name.kind, Kind::Item(_)) {
        return Err(missing());
    }
    let item = ItemId { turn: name.turn, idx: name.n };
    if let Some((session, _)) = base
        && let Some(about) = &session.about
        && about.minted_by(item.turn) == name.session
        && session.transcript.find(item).is_some()
    {
        return Ok(None);
    }
    let session = app.session(who, name.session).await.map_err(|_| missing())?;
    let found = session.transcript.find(item).filter(|it| it.body != Body::Erased);
    let found = found.ok_or_else(missing)?;
    match &found.body {
        Body::Call { .. } | Body::Result { .. } | Body::Compaction { .. } | Body::Erased => {
            Err(ApiError::new(
                &codes::UNSUPPORTED,
                "tool calls and their outputs cannot be taken over by reference yet",
            )
            .param(format!("input[{place}]"))
            .attempt("continue with `previous_response_id`, or send the items themselves"))
        }
        Body::Message { .. } | Body::Reasoning(_) | Body::Note { .. } | Body::Opaque { .. } => {
            Ok(Some(copy(found)))
        }
    }
}

fn copy(item: &Item) -> NewItem {
    NewItem {
        body: item.body.clone(),
        provider_id: item.provider_id.clone(),
        extra: item.extra.clone(),
    }
}
