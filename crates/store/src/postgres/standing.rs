//! What the server is set up to promise, in words, and what it must not be set up to.

use tokio_postgres::types::Type;

use crate::postgres::connect::Live;
use crate::postgres::migrate::STATE;
use crate::postgres::statements as sql;
use crate::postgres::trouble::{Kind, Trouble};
use crate::shelf::Standing;

/// A setting of the server; `None` where it knows none of that name.
async fn setting(live: &Live, name: &str) -> Result<Option<String>, Trouble> {
    let found = live.rows(sql::SETTING, &[(&name, Type::TEXT)]).await?;
    Ok(found.first().and_then(|row| row.try_get(0).ok().flatten()))
}

/// Refuses a server that forgets what it acknowledged when the power fails. The error says which setting.
pub(crate) async fn refuse_forgetful(live: &Live) -> Result<(), Trouble> {
    for (name, why) in [
        ("fsync", "it does not flush to its disk, and a power cut destroys the database"),
        ("full_page_writes", "a power cut in the middle of a page destroys what was on it"),
    ] {
        if setting(live, name).await?.as_deref() == Some("off") {
            let says = format!(
                "the server runs with {name}=off: {why}; set {name}=on in postgresql.conf and reload it"
            );
            return Err(Trouble::new(Kind::Refused, says));
        }
    }
    Ok(())
}

pub(super) async fn standing(live: &Live) -> Result<Standing, Trouble> {
    let version = setting(live, "server_version").await?.unwrap_or_else(|| "?".to_owned());
    let commit = setting(live, "synchronous_commit").await?.unwrap_or_default();
    let standbys = setting(live, "synchronous_standby_names").await?.unwrap_or_default();
    let mut promise = vec![promised(&commit, &standbys)];
    if let Err(trouble) = refuse_forgetful(live).await {
        promise.push(trouble.says().to_owned());
    }
    // Systems that only speak the wire need not know these.
    let is_standby = live.rows(sql::IS_STANDBY, &[]).await;
    if is_standby.is_ok_and(|rows| rows.first().is_some_and(|row| row.get(0))) {
        promise.push("this server is a standby: it takes no writes; name the primary".to_owned());
    }
    let size = live.rows(sql::SIZE, &[]).await;
    let bytes = size.ok().and_then(|rows| rows.first().map(|row| row.get::<_, i64>(0) as u64));
    Ok(Standing {
        schema: STATE.version(),
        bytes: bytes.unwrap_or(0),
        server: Some(format!("PostgreSQL {version}")),
        promise,
    })
}

/// What an acknowledged write survives.
fn promised(commit: &str, standbys: &str) -> String {
    let waits = !standbys.trim().is_empty();
    match commit {
        "off" => "synchronous_commit=off: a crash of the server loses what was acknowledged within \
                  the last moments; set it to on"
            .to_owned(),
        "local" if waits => "an acknowledged write survives a crash of the server, and a fail-over to a standby \
                             may lose it: synchronous_commit=local does not wait for the standbys that are named"
            .to_owned(),
        "remote_write" if waits => format!(
            "an acknowledged write survives the loss of the server, unless the operating systems of the standbys \
             ({standbys}) crash with it"
        ),
        "remote_apply" | "on" if waits => format!(
            "an acknowledged write is on the disk of the server and of its standbys ({standbys}): \
             it survives a fail-over to one of them"
        ),
        _ => "an acknowledged write survives a crash of the server; no synchronous standby is named, so a fail-over \
              may lose the last moments"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
