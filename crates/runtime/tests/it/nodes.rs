//! Several nodes on one log, that reach each other by calling each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use everstate_kernel::ids::{ItemId, SessionId};
use everstate_runtime::host::{Fed, FeedError, Host, Membership};
use everstate_runtime::ports::{Down, Hello, Peer, Peers, Tail, TailAsk};
use everstate_runtime::settings::{HostSettings, NodeSettings};
use everstate_runtime::start::StartError;
use futures_util::StreamExt;

use crate::gate::{Gate, Gated, ItsClock, gated_market};
use crate::world::World;

/// A world with a network between hosts.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    pub(crate) world: World,
    net: Arc<Mutex<Net>>,
}

#[derive(Debug, Default)]
struct Net {
    /// Processes by their addresses.
    hosts: BTreeMap<String, (Weak<Host>, Gate)>,
    /// Nodes (by name) that reach nobody and are reached by nobody.
    apart: BTreeSet<String>,
    n_processes: u32,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) host: Arc<Host>,
    pub(crate) gate: Gate,
}

impl Nodes {
    pub(crate) fn new() -> Nodes {
        Nodes { world: World::new(), net: Arc::default() }
    }

    /// A process that has not started. Every process has an address of its own.
    pub(crate) fn process(&self, name: &str, settings: HostSettings) -> Node {
        let no = {
            let mut net = self.net.lock().unwrap();
            net.n_processes += 1;
            net.n_processes
        };
        let address = format!("http://{name}.{no}");
        let gate = Gate::default();
        let mut ports = self.world.ports(no);
        ports.log = Gated::new(&gate, ports.log);
        ports.registry = Gated::new(&gate, ports.registry);
        ports.tools = Gated::new(&gate, ports.tools);
        ports.clock = Arc::new(ItsClock { gate: gate.clone(), clock: self.world.clock.clone() });
        let peers = Wire { nodes: self.clone(), name: name.to_owned(), gate: gate.clone() };
        ports.membership = Some(Membership {
            node: NodeSettings::new(name, &address, "1.0.0"),
            peers: Arc::new(peers),
        });
        let host = Host::new(ports, gated_market(&gate, self.world.market(no)), settings);
        let entry = (Arc::downgrade(&host), gate.clone());
        self.net.lock().unwrap().hosts.insert(address, entry);
        Node { name: name.to_owned(), host, gate }
    }

    pub(crate) async fn start(&self, name: &str) -> Result<Node, StartError> {
        let node = self.process(name, HostSettings::default());
        node.host.start().await.map(|()| node)
    }

    /// Nodes of these names, when every bucket is served.
    pub(crate) async fn all(&self, names: &str) -> Vec<Node> {
        let mut nodes = Vec::new();
        for name in names.split_whitespace() {
            nodes.push(self.start(name).await.unwrap());
        }
        self.settled(&nodes).await;
        nodes
    }

    /// Waits until these nodes, and no others, have all buckets.
    pub(crate) async fn settled(&self, nodes: &[Node]) {
        loop {
            let is_settled = nodes.iter().all(|node| {
                let facts = node.host.nodes();
                let alive: Vec<_> = facts.iter().filter(|it| it.is_alive).collect();
                alive.len() == nodes.len()
                    && alive.iter().all(|it| it.n_moving == 0 && it.lag == 0 && it.n_buckets > 0)
            });
            if is_settled {
                return;
            }
            self.world.clock.pause(50).await;
        }
    }

    pub(crate) fn keep_apart(&self, name: &str, is_apart: bool) {
        let apart = &mut self.net.lock().unwrap().apart;
        match is_apart {
            true => apart.insert(name.to_owned()),
            false => apart.remove(name),
        };
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.gate.kill();
    }
}

impl Node {
    /// A name for a session that this node serves.
    pub(crate) fn own(&self, seed: u128) -> SessionId {
        let mut n = seed << 32;
        self.host.mint(|| {
            n += 1;
            n
        })
    }
}

/// How one process reaches the others.
#[derive(Debug)]
struct Wire {
    nodes: Nodes,
    name: String,
    gate: Gate,
}

/// A call ends within this time.
const PATIENCE_MS: u64 = 2_000;

impl Wire {
    async fn reach(&self, address: &str) -> Result<Option<(Arc<Host>, Gate)>, Down> {
        self.gate.pass().await;
        self.nodes.world.clock.pause(1).await;
        let found = {
            let net = self.nodes.net.lock().unwrap();
            let to = address.trim_start_matches("http://").split('.').next().unwrap_or_default();
            match net.apart.contains(&self.name) || net.apart.contains(to) {
                true => None,
                false => Some(net.hosts.get(address).cloned()),
            }
        };
        match found {
            None => {
                self.nodes.world.clock.pause(PATIENCE_MS).await;
                Err(Down("time-out".to_owned()))
            }
            Some(found) => Ok(found.and_then(|(host, gate)| Some((host.upgrade()?, gate)))),
        }
    }

    /// The other side may be stopped; nobody waits for it longer than this.
    async fn call<T>(
        &self,
        address: &str,
        call: impl AsyncFnOnce(Arc<Host>) -> T,
    ) -> Result<Option<T>, Down> {
        let Some((host, gate)) = self.reach(address).await? else { return Ok(None) };
        let done = async {
            gate.pass().await;
            let done = call(host).await;
            gate.pass().await;
            done
        };
        let done = tokio::select! {
            biased;
            done = done => Ok(Some(done)),
            () = gate.killed() => Err(Down("connection reset".to_owned())),
            () = self.nodes.world.clock.pause(PATIENCE_MS) => Err(Down("time-out".to_owned())),
        };
        self.gate.pass().await;
        done
    }
}

fn refused<T>(done: Option<T>) -> Result<T, Down> {
    done.ok_or_else(|| Down("connection refused".to_owned()))
}

#[async_trait]
impl Peers for Wire {
    async fn nudge(&self, to: &Peer, session: SessionId) -> Result<(), Down> {
        refused(self.call(&to.address, async |it| it.nudged(session).await).await?)?
    }

    async fn tail(&self, to: &Peer, ask: TailAsk) -> Result<Tail, Down> {
        let tail = refused(self.call(&to.address, async |it| it.tail_for(ask).await).await?)??;
        let (wire, address) = (self.nodes.clone(), to.address.clone());
        let me = self.name.clone();
        let theirs = wire.net.lock().unwrap().hosts.get(&address).map(|it| it.1.clone()).unwrap();
        let state = Some((tail, wire, address, theirs, me));
        let tail = futures_util::stream::unfold(state, |state| async {
            let (mut tail, nodes, address, theirs, me) = state?;
            let is_broken = async {
                loop {
                    nodes.world.clock.pause(100).await;
                    let net = nodes.net.lock().unwrap();
                    let to = address.trim_start_matches("http://").split('.').next().unwrap();
                    if net.apart.contains(&me)
                        || net.apart.contains(to)
                        || net.hosts.get(&address).is_none_or(|it| it.0.strong_count() == 0)
                    {
                        return;
                    }
                }
            };
            let told = async {
                theirs.pass().await;
                tail.next().await
            };
            let told = tokio::select! {
                biased;
                told = told => told?,
                () = theirs.killed() => Err(Down("connection reset".to_owned())),
                () = is_broken => Err(Down("connection reset".to_owned())),
            };
            match told {
                Ok(told) => Some((Ok(told), Some((tail, nodes, address, theirs, me)))),
                Err(down) => Some((Err(down), None)),
            }
        });
        Ok(tail.boxed())
    }

    async fn erase(
        &self,
        to: &Peer,
        session: SessionId,
        items: Vec<ItemId>,
    ) -> Result<Fed, FeedError> {
        refused(self.call(&to.address, async |it| it.erase_for(session, items).await).await?)?
    }

    async fn delete(&self, to: &Peer, session: SessionId) -> Result<(), Down> {
        refused(self.call(&to.address, async |it| it.delete_for(session).await).await?)?
    }

    async fn hello(&self, address: &str) -> Result<Option<Hello>, Down> {
        Ok(self.call(address, async |it| it.hello()).await?.flatten())
    }
}
