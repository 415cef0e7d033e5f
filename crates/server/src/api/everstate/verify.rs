//! Does the log still say what was written?

use std::sync::Arc;

use axum::extract::State;
use serde_json::json;

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
    Ok(json!({
        "session": id,
        "ok": verdict.broken.is_none(),
        "rows": verdict.rows,
        "erased": verdict.erased,
        "broken": verdict.broken,
        "head": { "seq": verdict.head.seq, "hash": hex(&verdict.head.hash) },
    })
    .into())
}
