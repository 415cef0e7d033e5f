//! Schemas and their versions. A schema of a later release is refused before anything touches it; several nodes that
//! start at once agree by who inserts a step's row first.

use std::path::PathBuf;

use aws_lc_rs::digest;
use tokio_postgres::types::Type;

use crate::open::OpenError;
use crate::postgres::connect::{Line, Live, Work};
use crate::postgres::statements as sql;
use crate::postgres::trouble::{Kind, Trouble};
use crate::postgres::values;

/// A schema, and the steps that lead to its newest version.
#[derive(Debug)]
pub(crate) struct Schema {
    name: &'static str,
    migrations: &'static str,
    insert_migration: &'static str,
    /// The n-th step, from 1, leads to version n. A step that was released is never changed.
    steps: &'static [&'static str],
    /// What a later release adds and an earlier one does not mind: names and what is done, once. While releases change,
    /// nodes of the earlier one may start again.
    additions: &'static [(&'static str, &'static str)],
}

pub(crate) static STATE: Schema = Schema {
    name: "everstate",
    migrations: sql::MIGRATIONS,
    insert_migration: sql::INSERT_MIGRATION,
    steps: &[include_str!("schema/state_0001.sql")],
    additions: &[("under_way", include_str!("schema/state_under_way.sql"))],
};

pub(crate) static KEYS: Schema = Schema {
    name: "everstate_keys",
    migrations: sql::KEYS_MIGRATIONS,
    insert_migration: sql::INSERT_KEYS_MIGRATION,
    steps: &[include_str!("schema/keys_0001.sql")],
    additions: &[],
};

/// So often two may be in each other's way before it is called a failure.
const TRIES: usize = 50;

impl Schema {
    pub(crate) fn version(&self) -> u32 {
        u32::try_from(self.steps.len()).expect("a handful of steps")
    }
}

/// The version that is there, 0 if none is. Only looks.
pub(crate) async fn look(line: &Line, shown: &str, schema: &Schema) -> Result<u32, OpenError> {
    let found = line.ask(Work::Statement, |live| async move { steps(&live, schema).await }).await;
    let found =
        found.map_err(|it| OpenError::Down(format!("cannot open {shown}: {}", it.says())))?;
    let foreign = |version: u32| {
        let why = format!("step {version} of its schema `{}` is not the one we know", schema.name);
        OpenError::Foreign(format!("{shown}: {why}"))
    };
    let (last, known) = (found.len() as u32, schema.version());
    if let Some((newest, _)) = found.last().filter(|(it, _)| *it > known) {
        return Err(OpenError::Newer { path: PathBuf::from(shown), found: *newest, known });
    }
    for ((version, checksum), (step, expected)) in found.iter().zip(schema.steps.iter().zip(1u32..))
    {
        if *version != expected || checksum_of(step) != *checksum {
            return Err(foreign(*version));
        }
    }
    Ok(last)
}

/// Brings a database to the newest schema, each step in a transaction of its own.
pub(crate) async fn migrate(line: &Line, shown: &str, schema: &Schema) -> Result<(), OpenError> {
    let failed = |trouble: &Trouble| {
        OpenError::Down(format!("cannot bring {shown} up to date: {}", trouble.says()))
    };
    let mut last = None;
    for _ in 0..TRIES {
        let found = look(line, shown, schema).await?;
        let live = line.get().await.map_err(|it| failed(&it))?;
        let done = match schema.steps.get(found as usize) {
            Some(step) if found == 0 => first_step(&live, schema, step).await,
            Some(step) => take_step(&live, schema, found + 1, step).await,
            None => match add(&live, schema).await {
                Ok(()) => return Ok(()),
                failed => failed,
            },
        };
        let Err(trouble) = done else { continue };
        // After this the connection is out of the transaction, whatever happened in it.
        line.hang_up(&live).await;
        if trouble.kind != Kind::Again && trouble.kind != Kind::Lost {
            return Err(failed(&trouble));
        }
        last = Some(trouble);
    }
    let stuck = Trouble::new(Kind::Again, "others change it all the time".to_owned());
    Err(failed(&last.unwrap_or(stuck)))
}

async fn steps(live: &Live, schema: &Schema) -> Result<Vec<(u32, Vec<u8>)>, Trouble> {
    let rows = match live.rows(schema.migrations, &[]).await {
        Ok(rows) => rows,
        Err(trouble) if trouble.kind == Kind::Missing => return Ok(Vec::new()),
        Err(trouble) => return Err(trouble),
    };
    let step = |row| -> Result<(u32, Vec<u8>), everstate_runtime::ports::Down> {
        Ok((values::get::<i32>(row, 0)? as u32, values::get(row, 1)?))
    };
    let steps: Result<Vec<_>, _> = rows.iter().map(step).collect();
    steps.map_err(|down| Trouble::new(Kind::Refused, down.0))
}

/// A schema that somebody with more rights made for us is taken as it is.
async fn first_step(live: &Live, schema: &Schema, step: &str) -> Result<(), Trouble> {
    let table = format!(
        "CREATE TABLE IF NOT EXISTS {}.migration \
         (version integer NOT NULL, checksum bytea NOT NULL, PRIMARY KEY (version))",
        schema.name
    );
    match live.plain(&table).await {
        Err(trouble) if trouble.kind == Kind::Missing => {
            live.plain(&format!("CREATE SCHEMA IF NOT EXISTS {}", schema.name)).await?;
            live.plain(&table).await?;
        }
        made => made?,
    }
    take_step(live, schema, 1, step).await
}

async fn take_step(live: &Live, schema: &Schema, to: u32, step: &str) -> Result<(), Trouble> {
    live.plain("BEGIN").await?;
    let (version, checksum) = (to as i32, checksum_of(step));
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&version, Type::INT4), (&checksum, Type::BYTEA)];
    // Whoever comes second waits here until the first is done.
    match live.rows(schema.insert_migration, &params).await?.is_empty() {
        true => live.plain("ROLLBACK").await,
        false => {
            live.plain(step).await?;
            live.plain("COMMIT").await
        }
    }
}

/// Adds what is missing.
async fn add(live: &Live, schema: &Schema) -> Result<(), Trouble> {
    if schema.additions.is_empty() {
        return Ok(());
    }
    let there = match live.rows(sql::ADDITIONS, &[]).await {
        Ok(rows) => {
            let names: Result<Vec<String>, _> = rows.iter().map(|it| values::get(it, 0)).collect();
            names.map_err(|down| Trouble::new(Kind::Refused, down.0))?
        }
        Err(trouble) if trouble.kind == Kind::Missing => {
            let table = "CREATE TABLE IF NOT EXISTS everstate.addition \
                         (name text NOT NULL, PRIMARY KEY (name))";
            live.plain(table).await?;
            Vec::new()
        }
        Err(trouble) => return Err(trouble),
    };
    for (name, text) in
        schema.additions.iter().filter(|(name, _)| !there.iter().any(|it| it == name))
    {
        live.plain("BEGIN").await?;
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] = [(name, Type::TEXT)];
        match live.rows(sql::INSERT_ADDITION, &params).await?.is_empty() {
            true => live.plain("ROLLBACK").await?,
            false => {
                live.plain(text).await?;
                live.plain("COMMIT").await?;
            }
        }
    }
    Ok(())
}

fn checksum_of(step: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, step.as_bytes()).as_ref().to_vec()
}
