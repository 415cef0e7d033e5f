//! A server for one person on one machine: durable beside the project, with a key of its own, told in six lines.

use std::path::PathBuf;

use clap::Args;
use everstate_server::config::{Flags, load};
use everstate_server::serve::{Ready, serve};
use serde_json::json;

use crate::client::Client;
use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};
use crate::key;
use crate::serve::log_to_stderr;

/// A server for yourself, durable in ./.everstate
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 7070)]
    port: u16,
    /// The configuration [default: the nearest everstate.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Dev {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        log_to_stderr("warn");
        let dir = desk.here.join(key::DIR);
        make(&dir)?;
        let given = std::env::var("EVERSTATE_ADMIN_KEY").ok().filter(|it| !it.is_empty());
        let admin = match given {
            Some(key) => key,
            None => key::keep(&dir)?,
        };
        let env = |name: &str| match name {
            "EVERSTATE_ADMIN_KEY" => Some(admin.clone()),
            _ => std::env::var(name).ok(),
        };
        let store = format!("sqlite:{}", dir.join("state.db").display());
        let listen = format!("127.0.0.1:{}", self.port);
        // As its store, not where a configuration has those of others.
        let blobs = dir.join("state.blobs").display().to_string();
        let flags = Flags {
            config: self.config,
            listen: Some(listen),
            store: Some(store),
            blobs: Some(blobs),
            ..Flags::default()
        };
        let settings = load(&flags, &env, &desk.here)?;
        let config = settings.path.clone();
        let url_file = dir.join(key::URL_FILE);
        if let Some(url) = running(&url_file, &admin).await {
            match desk.out.is_json {
                true => desk.out.json(&json!({ "url": url, "already_running": true })),
                false => desk.out.line(&format!("already running: {url}")),
            }
            return Ok(());
        }
        let ready = |ready: Ready| {
            // Only a help for other commands started here; they have a usual address too.
            key::write_private(&url_file, &ready.url).ok();
            banner(desk, &ready, config.as_deref(), &dir, &admin);
        };
        let served = serve(settings, ready).await;
        std::fs::remove_file(&url_file).ok();
        Ok(served?)
    }
}

/// The server of this directory, if it answers to this directory's key.
async fn running(url_file: &PathBuf, admin: &str) -> Option<String> {
    let url = std::fs::read_to_string(url_file).ok()?.trim().to_owned();
    let key = key::Found { text: admin.to_owned(), origin: "this directory".to_owned() };
    let client = Client::new(&url, Some(key)).ok()?;
    client.get("/everstate/v1/doctor").await.ok()?;
    Some(url)
}

fn banner(
    desk: &Desk,
    ready: &Ready,
    config: Option<&std::path::Path>,
    dir: &std::path::Path,
    key: &str,
) {
    let config = config.map(|it| it.display().to_string());
    if desk.out.is_json {
        let providers: Vec<_> = ready
            .sources
            .iter()
            .map(|it| json!({ "provider": it.provider, "credentials": it.credentials, "usable": it.usable, "simulation": it.simulation }))
            .collect();
        desk.out.json(&json!({
            "url": ready.url,
            "store": ready.store,
            "key_file": dir.join(key::KEY_FILE).display().to_string(),
            "config": config,
            "providers": providers,
        }));
        return;
    }
    let providers: Vec<String> = ready
        .sources
        .iter()
        .map(|it| {
            let what = if it.simulation { "simulation" } else { it.credentials.as_str() };
            format!("{} ({what})", it.provider)
        })
        .collect();
    let hint = key.get(key.len().saturating_sub(4)..).unwrap_or("");
    let out = &desk.out;
    out.line(&format!("everstate   {}/v1", ready.url));
    out.line(&format!("state       {}/state.db, durable: it outlives kill -9", dir.display()));
    out.line(&format!("providers   {}", providers.join(", ")));
    out.line(&format!(
        "config      {}",
        config.unwrap_or_else(|| "no everstate.toml, all defaults".to_owned())
    ));
    out.line(&format!("key         es_...{hint}, in {}", dir.join(key::KEY_FILE).display()));
    out.line(&format!(
        "next        OPENAI_BASE_URL={}/v1 OPENAI_API_KEY=$(cat .everstate/key) your-program",
        ready.url
    ));
}

fn make(dir: &PathBuf) -> Done {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|err| {
        Fault::new(&codes::FILE, format!("cannot make the directory {}: {err}", dir.display()))
    })
}
