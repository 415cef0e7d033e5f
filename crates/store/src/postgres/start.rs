//! Opening: waiting for a server that is not there yet, refusing one that forgets, bringing the schemas up to date.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::open::OpenError;
use crate::postgres::connect::{Line, Target, Work, wait_a_little};
use crate::postgres::migrate::{self, Schema};
use crate::postgres::standing::refuse_forgetful;
use crate::postgres::trouble::Kind;

/// How often whoever watches hears that it still waits.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A database that is there and fit for use, its schema not yet touched.
pub(crate) async fn reach(url: &str, wait: Duration) -> Result<(Arc<Target>, Line), OpenError> {
    let target = Arc::new(Target::parse(url, wait).map_err(OpenError::BadUrl)?);
    let line = Line::new(&target);
    let (began, mut said) = (Instant::now(), None::<Instant>);
    let mut n_tries = 0;
    loop {
        let fit =
            line.ask(Work::Statement, |live| async move { refuse_forgetful(&live).await }).await;
        let Err(trouble) = fit else { return Ok((target, line)) };
        let why = trouble.says();
        if trouble.kind == Kind::Refused || trouble.kind == Kind::Missing {
            return Err(OpenError::Down(format!("cannot use the {target}: {why}")));
        }
        if began.elapsed() >= wait {
            let waited = began.elapsed().as_secs();
            return Err(OpenError::Down(format!(
                "cannot reach the {target}, after waiting {waited} s: {why}"
            )));
        }
        if said.is_none_or(|it| it.elapsed() >= SAY_EVERY) {
            let left = wait.saturating_sub(began.elapsed()).as_secs();
            tracing::warn!("cannot reach the {target}, trying for {left} s more: {why}");
            said = Some(Instant::now());
        }
        n_tries += 1;
        wait_a_little(n_tries).await;
    }
}

/// Looks at all of them before it changes any.
pub(crate) async fn bring_up_to_date(
    schemas: &[(&Target, &Line, &Schema)],
) -> Result<(), OpenError> {
    for (target, line, schema) in schemas {
        migrate::look(line, &target.to_string(), schema).await?;
    }
    for (target, line, schema) in schemas {
        migrate::migrate(line, &target.to_string(), schema).await?;
    }
    Ok(())
}
