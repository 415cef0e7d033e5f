//! Does the log still say what was written?

use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::Verdict;
use serde_json::{Value, json};

use super::sessions::named;
use crate::app::App;
use crate::error::Result;
use crate::http::{Answer, Id};
use crate::keys::{Principal, hex};

pub(super) async fn verify(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Answer> {
    let session = named(&app, &who, &id).await?;
    let id = App::about(&session)?.id;
    let verdict = app.durable.log.verify(id).await?;
    let kept = app.archive.verify(id).await?;
    let mut told = told(id, &verdict);
    told["ok"] =
        (verdict.broken.is_none() && kept.iter().all(|it| it.verdict.broken.is_none())).into();
    // The logs it was written in before it came here.
    told["origins"] = kept.iter().map(|it| self::told(it.session, &it.verdict)).collect();
    Ok(told.into())
}

fn told(session: SessionId, verdict: &Verdict) -> Value {
    json!({
        "session": session,
        "ok": verdict.broken.is_none(),
        "rows": verdict.rows,
        "erased": verdict.erased,
        "broken": verdict.broken,
        "head": { "seq": verdict.head.seq, "hash": hex(&verdict.head.hash) },
    })
}
