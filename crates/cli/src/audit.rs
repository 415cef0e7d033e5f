//! Does every log still say what was written? Read from the store itself, so that no server has to be believed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use everstate_server::config::{Flags, load};
use everstate_server::offline::{self, Verified};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};
use crate::session::SESSIONS;
use crate::timeline::words;

/// The hash chains of the logs: verify
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verify every session's chain: in a store with --store, else through the server
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Verify {
    /// Read this store; no server may be running on it
    #[arg(long, value_name = "sqlite:PATH")]
    store: Option<String>,
    /// The configuration that belongs to the store
    #[arg(long, value_name = "FILE", requires = "store")]
    config: Option<PathBuf>,
}

/// One session.
struct Chain {
    session: String,
    rows: u64,
    erased: u64,
    broken: Option<String>,
    head: u64,
    hash: String,
    /// The session of ours that it is kept with, of a log from another installation.
    kept_with: Option<String>,
}

impl Audit {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let Verb::Verify(verify) = self.verb;
        let chains = match verify.store {
            Some(store) => {
                let flags = Flags { config: verify.config, store: Some(store), ..Flags::default() };
                let env = |name: &str| std::env::var(name).ok();
                let settings = load(&flags, &env, &desk.here)?;
                offline::verify(&settings, &env).await?.into_iter().map(Chain::from).collect()
            }
            None => online(desk).await?,
        };
        tell(desk, &chains)
    }
}

async fn online(desk: &Desk) -> Result<Vec<Chain>, Fault> {
    let client = desk.client()?;
    let mut chains = Vec::new();
    let mut before = String::new();
    loop {
        let page = client.get(&format!("{SESSIONS}?limit=500{before}")).await?;
        for session in page["items"].as_array().into_iter().flatten() {
            let id = session["id"].as_str().unwrap_or_default();
            let verdict = client.get(&format!("{SESSIONS}/{id}/verify")).await?;
            chains.push(Chain::read(&verdict, None));
            let kept = verdict["origins"].as_array().into_iter().flatten();
            chains.extend(kept.map(|it| Chain::read(it, Some(id))));
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return Ok(chains),
        }
    }
}

impl Chain {
    fn read(verdict: &Value, kept_with: Option<&str>) -> Chain {
        Chain {
            session: verdict["session"].as_str().unwrap_or_default().to_owned(),
            rows: verdict["rows"].as_u64().unwrap_or_default(),
            erased: verdict["erased"].as_u64().unwrap_or_default(),
            broken: verdict["broken"].as_str().map(str::to_owned),
            head: verdict["head"]["seq"].as_u64().unwrap_or_default(),
            hash: verdict["head"]["hash"].as_str().unwrap_or_default().to_owned(),
            kept_with: kept_with.map(str::to_owned),
        }
    }
}

impl From<Verified> for Chain {
    fn from(it: Verified) -> Chain {
        Chain {
            session: it.session.to_string(),
            rows: it.rows,
            erased: it.erased,
            broken: it.broken,
            head: it.head,
            hash: it.hash,
            kept_with: it.kept_with.map(|it| it.to_string()),
        }
    }
}

fn tell(desk: &Desk, chains: &[Chain]) -> Done {
    let broken: Vec<&Chain> = chains.iter().filter(|it| it.broken.is_some()).collect();
    let rows: u64 = chains.iter().map(|it| it.rows).sum();
    let erased: u64 = chains.iter().map(|it| it.erased).sum();
    let n_kept = chains.iter().filter(|it| it.kept_with.is_some()).count();
    if desk.out.is_json {
        let items: Vec<Value> = chains
            .iter()
            .map(|it| {
                json!({
                    "session": it.session,
                    "ok": it.broken.is_none(),
                    "rows": it.rows,
                    "erased": it.erased,
                    "broken": it.broken,
                    "kept_with": it.kept_with,
                    "head": { "seq": it.head, "hash": it.hash },
                })
            })
            .collect();
        desk.out.json(&json!({ "items": items, "next": null, "ok": broken.is_empty() }));
    } else {
        for chain in &broken {
            let why = chain.broken.as_deref().unwrap_or_default();
            desk.out.line(&format!("BROKEN  {}  {why}", chain.session));
        }
        let word = if broken.is_empty() { "ok" } else { "BROKEN" };
        desk.out.line(&format!(
            "{word}: {}, {}, {} erased, {} broken",
            words::count((chains.len() - n_kept) as u64, "session"),
            words::count(rows, "row"),
            erased,
            broken.len(),
        ));
        if n_kept > 0 {
            let kept = words::count(n_kept as u64, "log");
            desk.out.line(&format!("of these, {kept} from before a session was imported"));
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    let what = format!(
        "{} not verify",
        match broken.len() {
            1 => "1 log does".to_owned(),
            n => format!("{n} logs do"),
        }
    );
    Err(Fault::new(&codes::CHAIN_BROKEN, what)
        .why(broken[0].broken.clone().unwrap_or_default())
        .attempt("restore the store from a backup, and keep this one as evidence"))
}
