//! Puts everything together: store, providers, offers, tools, hosts, doors.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_lc_rs::hmac;
use everstate_kernel::offer::Offer;
use everstate_providers::config::ProviderConfig;
use everstate_providers::found::{Found, found};
use everstate_providers::kind::{self, Around, Credentials, Opened};
use everstate_providers::ourselves::is_ourselves;
use everstate_providers::rehearsal;
use everstate_runtime::host::{Host, Membership, Ports};
use everstate_runtime::ledger::{Ledger, Limits};
use everstate_runtime::market::Market;
use everstate_runtime::ports::{Clock, Model, Tools};
use everstate_runtime::settings::{HostSettings, NodeSettings};
use everstate_runtime::start::StartError;
use everstate_runtime::veil::Veil;
use everstate_store::blobs::place::Place;
use everstate_store::keys::source::KeySource;
use everstate_store::open::{self, OpenError, Store};
use everstate_tools::Toolbox;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::{App, Gates, Side};
use crate::bundle::seal::Identity;
use crate::chores::Fleeting;
use crate::claim::Claims;
use crate::clock::SystemClock;
use crate::config::projects::Projects;
use crate::config::{Origin, REHEARSAL, Settings};
use crate::error::{ApiError, Result, codes};
use crate::ids::Naming;
use crate::keys::{Keys, drawn_once, random};
use crate::limits::Limits as RateLimits;
use crate::limits::holds::Holds;
use crate::limits::turnstile::Gate;
use crate::menu::Menu;
use crate::peers::HttpPeers;
use crate::peers::seal::Seals;
use crate::retention::rules;
use crate::stall::{Goods, Stall};
use crate::telemetry::Telemetry;

/// A server's insides, ready and started, and what there is to say about them.
#[derive(Debug)]
pub(crate) struct Wired {
    pub app: Arc<App>,
    /// The admin key, if it was made just now.
    pub new_key: Option<String>,
    pub sources: Vec<Source>,
}

/// A provider, and where its credentials come from. For banners and `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub provider: String,
    pub kind: String,
    pub base_url: Option<String>,
    /// In words; never the credentials.
    pub credentials: String,
    pub usable: bool,
    pub simulation: bool,
}

pub type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// Everything but the sessions under way: [`start`] sets them going. `listen` is where this server is going to be
/// reached.
pub(crate) async fn wire(settings: Settings, env: Env<'_>, listen: SocketAddr) -> Result<Wired> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (goods, sources) = goods(&settings, env, listen)?;
    let toolbox = Toolbox::from_config(settings.file.tools.clone(), &|it| it.resolve_with(env))
        .map_err(|err| ApiError::new(&codes::CONFIG_INVALID, err.to_string()))?;
    let menu = Menu::new(toolbox.declared());
    let tools: Arc<dyn Tools> = Arc::new(toolbox);

    let wait = Duration::from_secs(settings.node.store_wait_s.value);
    let kept = open_store(&settings, env, listen, wait).await?;
    let fleeting = open::open("memory:", open::Settings::default())
        .await
        .map_err(|err| ApiError::new(&codes::STORE_FAILED, err.to_string()))?;
    let registry = kept.registry.clone();
    let market = goods.market(&*registry).await?;
    let (membership, peers, seals) = match settings.is_shared() {
        true => {
            let (membership, peers, seals) = membership(&settings, &kept, listen)?;
            (Some(membership), Some(peers), Some(seals))
        }
        false => (None, None, None),
    };
    let instance = match &membership {
        Some(it) => it.node.name.clone(),
        None => format!("{:016x}", u64::from_be_bytes(random())),
    };
    let projects = &settings.file.projects;
    let durable = side(&kept, &tools, &clock, market.clone(), projects, membership);
    let memory = side(&fleeting, &tools, &clock, market, projects, None);
    let hosts = vec![durable.host.clone(), memory.host.clone()];
    let stall = Stall::open(goods, hosts, registry.clone(), clock.clone()).await?;
    let naming = Naming::new(&drawn_once(&*registry, clock.now(), "naming").await?);
    let admin = settings.admin_key.value.as_ref().map(ExposeSecret::expose_secret);
    let (keys, new_key) = Keys::open(registry.clone(), clock.clone(), admin).await?;
    let telemetry = match &settings.telemetry {
        Some(traces) => Some(Telemetry::start(traces, env, &instance, &sources)?),
        None => None,
    };
    if let Some(telemetry) = &telemetry {
        telemetry.watch(&durable.host, &durable.log);
        telemetry.watch(&memory.host, &memory.log);
    }
    let ledgers = ledgers(&settings, &kept, &clock);
    if let Some((stored, unstored)) = &ledgers {
        durable.host.keep_ledger(stored.clone());
        memory.host.keep_ledger(unstored.clone());
    }
    let limits = Arc::new(RateLimits::new(&settings.file.projects, clock.clone(), &durable.host));
    let holds = Arc::new(Holds::new(registry.clone(), clock.clone()));
    let gate = Arc::new(Gate {
        limits: limits.clone(),
        holds: holds.clone(),
        logs: vec![durable.log.clone(), memory.log.clone()],
        entering: Arc::default(),
    });
    durable.host.let_in_by(gate.clone());
    memory.host.let_in_by(gate);
    memory.host.start().await?;
    let app = App {
        keys,
        limits,
        holds,
        claims: Claims::new(registry.clone(), clock.clone()),
        naming: Arc::new(naming),
        registry,
        sealed: kept.sealed.clone(),
        secret_claims: hmac::Key::new(hmac::HMAC_SHA256, &kept.secret("claims of secrets")),
        clock,
        durable,
        memory,
        upkeep: kept.upkeep.clone(),
        archive: kept.archive.clone(),
        identity: Identity::of_secret(kept.secret("bundles"))
            .expect("any 32 bytes are an X25519 key"),
        fleeting: Fleeting::default(),
        menu,
        stall,
        sources: sources.clone(),
        gates: Gates::default(),
        unstored: ledgers.map(|(_, unstored)| unstored),
        telemetry,
        seals,
        peers,
        started: watch::Sender::new(false),
        closing: AtomicBool::new(false),
        settings,
    };
    Ok(Wired { app: Arc::new(app), new_key, sources })
}

/// Sets the stored sessions going. Other nodes may ask who we are meanwhile.
pub(crate) async fn start(app: &App) -> Result<()> {
    let until = patience(&app.settings);
    loop {
        match app.durable.host.start().await {
            Ok(()) => break,
            Err(StartError::Refused(why)) => {
                return Err(ApiError::new(&codes::NODE_REFUSED, why));
            }
            Err(StartError::Down(down)) if app.settings.is_shared() => {
                wait_for_store(&down, until).await?;
            }
            Err(StartError::Down(down)) => return Err(down.into()),
        }
    }
    if let Some(unstored) = &app.unstored {
        // Nodes share the documents, so this one has one name in them.
        unstored.begin(app.durable.host.epoch());
    }
    app.started.send_replace(true);
    Ok(())
}

fn patience(settings: &Settings) -> Instant {
    let wait = if settings.is_shared() { settings.node.store_wait_s.value } else { 0 };
    Instant::now() + Duration::from_secs(wait)
}

const STORE_AGAIN: Duration = Duration::from_secs(1);

/// Until it is time to try again. An error when it has been long enough.
async fn wait_for_store(why: &(dyn fmt::Display + Sync), until: Instant) -> Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ApiError::new(&codes::STORE_UNREACHABLE, why.to_string())
            .why("`server.store_wait_s` says how long a start waits for it"));
    }
    tracing::warn!("{why}; tried again for {} s more", left.as_secs());
    tokio::time::sleep(STORE_AGAIN.min(left)).await;
    Ok(())
}

fn membership(
    settings: &Settings,
    store: &Store,
    listen: SocketAddr,
) -> Result<(Membership, Arc<HttpPeers>, Arc<Seals>)> {
    let address = settings.node.address(listen)?;
    if settings.node.is_only_here(&address) {
        tracing::warn!(
            "other nodes are told to reach this one at {address}, which is their own machine; --advertise"
        );
    }
    let lease_ms = settings.node.lease_ttl_ms.value;
    let name = settings.node.name(listen);
    let node = NodeSettings {
        lease_ms,
        beat_ms: lease_ms / 5,
        look_ms: lease_ms / 10,
        ..NodeSettings::new(&name, &address, env!("CARGO_PKG_VERSION"))
    };
    let seals = Arc::new(Seals::new(&store.secret("node")));
    let peers = Arc::new(HttpPeers::new(seals.clone())?);
    Ok((Membership { node, peers: peers.clone() }, peers, seals))
}

fn side(
    store: &Store,
    tools: &Arc<dyn Tools>,
    clock: &Arc<dyn Clock>,
    market: Market,
    projects: &Projects,
    membership: Option<Membership>,
) -> Side {
    let log = Veil::over(store.log.clone(), clock.clone());
    let ports = Ports {
        log: log.clone(),
        registry: store.registry.clone(),
        tools: tools.clone(),
        clock: clock.clone(),
        membership,
    };
    let streams_kept = rules::streams(projects);
    let (veiled, unveiled) = rules::veiled(projects);
    let settings = HostSettings { streams_kept, veiled, unveiled, ..HostSettings::default() };
    Side { host: Host::new(ports, market, settings), log }
}

/// Where big bodies go, if that was said.
pub(crate) fn blobs(settings: &Settings, env: Env<'_>) -> Result<Option<Place>> {
    let Some(text) = &settings.blobs.value else { return Ok(None) };
    let base = settings.base(&settings.blobs.origin);
    let place = Place::from_url(text, base, &|name| env(name));
    place.map(Some).map_err(|bad| ApiError::new(&codes::CONFIG_INVALID, bad.to_string()))
}

/// Of sessions that are stored, and of those that are not. None if nobody's money is limited.
fn ledgers(
    settings: &Settings,
    kept: &Store,
    clock: &Arc<dyn Clock>,
) -> Option<(Arc<Ledger>, Arc<Ledger>)> {
    let limits = settings.budgets();
    if limits == Limits::default() {
        return None;
    }
    let ledger = |stored| {
        let (registry, log) = (kept.registry.clone(), kept.log.clone());
        Ledger::new(registry, log, stored, clock.clone(), limits.clone())
    };
    Some((ledger(true), ledger(false)))
}

/// `wait`: for a database that is not there yet. Files are not waited for.
pub(crate) async fn open_store(
    settings: &Settings,
    env: Env<'_>,
    listen: SocketAddr,
    wait: Duration,
) -> Result<Store> {
    let (url, how) = opening(settings, env, listen, wait)?;
    open::open(&url, how).await.map_err(|err| not_opened(settings, &err))
}

/// The store's URL, and how it is opened.
pub(crate) fn opening(
    settings: &Settings,
    env: Env<'_>,
    listen: SocketAddr,
    wait: Duration,
) -> Result<(String, open::Settings)> {
    let url = match settings.store.value.strip_prefix("sqlite:") {
        Some(path) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            format!("sqlite:{}", settings.store_path(path).display())
        }
        None => settings.store.value.clone(),
    };
    let keys = match &settings.file.server.master_key {
        Some(text) => Some(key_source(text, &settings.dir)?),
        None => env("EVERSTATE_MASTER_KEY")
            .filter(|it| !it.is_empty())
            .map(|_| KeySource::Env("EVERSTATE_MASTER_KEY".to_owned())),
    };
    let address = format!("http://{listen}");
    let blobs = blobs(settings, env)?;
    let keys_url = settings.keys.value.clone();
    let how = open::Settings { keys, keys_url, blobs, wait, address, ..Default::default() };
    Ok((url, how))
}

pub(crate) fn not_opened(settings: &Settings, err: &OpenError) -> ApiError {
    let code = match err {
        OpenError::Locked { .. } => &codes::STORE_LOCKED,
        OpenError::Newer { .. } => &codes::STORE_NEWER,
        OpenError::BadUrl(_) => &codes::CONFIG_INVALID,
        OpenError::Down(_) if settings.is_shared() => &codes::STORE_UNREACHABLE,
        OpenError::Foreign(_) | OpenError::Key(_) | OpenError::Blobs(_) | OpenError::Down(_) => {
            &codes::STORE_FAILED
        }
    };
    ApiError::new(code, settings.without_passwords(&err.to_string()))
}

/// `env:NAME`, `file:PATH` or `command:COMMAND`.
fn key_source(text: &str, dir: &Path) -> Result<KeySource> {
    match text.split_once(':') {
        Some(("env", name)) if !name.is_empty() => Ok(KeySource::Env(name.to_owned())),
        Some(("file", path)) if !path.is_empty() => Ok(KeySource::File(dir.join(path))),
        Some(("command", command)) if !command.is_empty() => {
            Ok(KeySource::Command(command.to_owned()))
        }
        _ => Err(ApiError::new(
            &codes::LITERAL_SECRET,
            "server.master_key is `env:NAME`, `file:PATH` or `command:COMMAND`, never the key itself",
        )),
    }
}

/// Everything that can be bought here, and from whom.
pub(crate) fn goods(
    settings: &Settings,
    env: Env<'_>,
    listen: SocketAddr,
) -> Result<(Goods, Vec<Source>)> {
    let around = Around { env: &|name| env(name), dir: &settings.dir };
    let mut configs: BTreeMap<String, ProviderConfig> = settings.file.providers.clone();
    let mut by_name: Option<Found> = None;
    let mut mentions = Vec::new();
    for found in found(&|name| env(name)) {
        if found.by_model_name && !configs.contains_key(&found.name) {
            configs.insert(found.name.clone(), found.config.clone());
            by_name = Some(found);
        } else if !found.by_model_name && !configs.contains_key(&found.name) {
            mentions.push(Source {
                provider: found.name.clone(),
                kind: found.config.kind.clone(),
                base_url: None,
                credentials: format!("{}; not used: it is not configured", found.origin),
                usable: false,
                simulation: false,
            });
        }
    }
    configs.entry(REHEARSAL.to_owned()).or_insert_with(|| ProviderConfig {
        kind: REHEARSAL.to_owned(),
        settings: toml::Table::new(),
    });

    let mut opened: BTreeMap<String, Opened> = BTreeMap::new();
    let mut sources = Vec::new();
    for (name, config) in &configs {
        let provider = kind::open(name, config, &around)
            .map_err(|err| ApiError::new(&codes::CONFIG_INVALID, err.to_string()))?;
        let ours = provider.base_url.as_deref().is_some_and(|it| is_ourselves(it, listen));
        let from_env = by_name.as_ref().is_some_and(|it| it.name == *name);
        if ours && !from_env {
            let text =
                format!("[providers.{name}] is this server itself: it would ask itself for ever");
            return Err(ApiError::new(&codes::CONFIG_INVALID, text));
        }
        let (mut usable, mut credentials) = match &provider.credentials {
            Credentials::NotNeeded => (true, "none needed".to_owned()),
            Credentials::From(from) => (true, from.clone()),
            Credentials::Missing(why) => (false, why.clone()),
        };
        if ours {
            (usable, credentials) =
                (false, "OPENAI_BASE_URL is this server itself: not used".to_owned());
            by_name = None;
        }
        sources.push(Source {
            provider: name.clone(),
            kind: config.kind.clone(),
            base_url: provider.base_url.clone(),
            credentials,
            usable,
            simulation: config.kind == REHEARSAL,
        });
        if usable {
            opened.insert(name.clone(), provider);
        }
    }
    sources.extend(mentions);

    let configured = offers(settings, &opened);
    let models: BTreeMap<String, Arc<dyn Model>> =
        opened.iter().map(|(name, it)| (name.clone(), it.model.clone())).collect();
    let goods = Goods { models, constraints: settings.constraints(), configured, found: by_name };
    Ok((goods, sources))
}

fn offers(settings: &Settings, opened: &BTreeMap<String, Opened>) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for config in &settings.file.offers {
        // An offer whose provider cannot be asked stays in the list: a plan says that it had no credentials.
        let (dialect, facts) = match opened.get(&config.provider) {
            Some(provider) => (provider.dialect, provider.facts.clone()),
            None => ("responses", BTreeMap::new()),
        };
        offers.push(config.offer(dialect, &facts));
    }
    if !offers.iter().any(|it| it.model == REHEARSAL) {
        offers.push(rehearsal::offer(REHEARSAL));
    }
    offers
}

impl Settings {
    /// A store given by the file is beside the file; one given by hand, where the command was started.
    pub(crate) fn store_path(&self, path: &str) -> PathBuf {
        self.base(&self.store.origin).join(path)
    }

    /// What a path from there is relative to.
    fn base(&self, origin: &Origin) -> &Path {
        match origin {
            Origin::File(_) => &self.dir,
            Origin::Flag(_) | Origin::Env(_) | Origin::Default => &self.here,
        }
    }
}
