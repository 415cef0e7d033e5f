//! Clients of three nodes, each on a machine of its own, while one of them loses its way to the database: packets are
//! dropped, the cable is pulled, connections are reset, everything is slow; for shorter and for longer than its lease.
//! They may be told 503 and have to come again, and their streams may break and have to be resumed. Nothing else.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everstate_test_postgres::Cluster;
use serde_json::Value;

use crate::Wishes;
use crate::http::{self, LOOPBACK};
use crate::net::{Machine, Net};
use crate::nodes::{Node, Tool};
use crate::processes::pause;
use crate::relay::Relay;
use crate::turns::{CLIENTS, Seen, clients, judge, more_turns};

const NODES: u8 = 3;
/// Of a lease of 10 s.
const SHORT: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(25);
/// Until all nodes have their shares again.
const REST: Duration = Duration::from_secs(60);

/// What happens to a machine. Answers what there is to say of it.
struct Cut {
    name: &'static str,
    happens: fn(&Place<'_>) -> Result<String, String>,
}

struct Place<'a> {
    machine: &'a Machine,
    net: &'a Net,
    relay: &'a Relay,
}

const CUTS: &[Cut] = &[
    Cut { name: "packets to the database dropped for 4 s", happens: |it| dropped(it, SHORT) },
    Cut { name: "packets to the database dropped for 25 s", happens: |it| dropped(it, LONG) },
    Cut { name: "the cable pulled for 4 s", happens: |it| pulled(it, SHORT) },
    Cut { name: "the cable pulled for 25 s", happens: |it| pulled(it, LONG) },
    Cut {
        name: "connections to the database reset, every second for 10 s",
        happens: |it| {
            let mut n_reset = 0;
            for _ in 0..10 {
                match it.machine.reset_connections(it.net.database(), it.relay.port) {
                    Ok(n) => n_reset += n,
                    Err(why) => return Ok(format!("skipped: {why}")),
                }
                pause(Duration::from_secs(1));
            }
            match n_reset {
                0 => Ok("skipped: this kernel closes no connections for `ss -K`".to_owned()),
                n => Ok(format!("{n} reset")),
            }
        },
    },
    Cut {
        name: "the database 200 ms away, each way, for 20 s",
        happens: |it| {
            it.relay.slow(200);
            pause(Duration::from_secs(20));
            it.relay.slow(0);
            Ok(String::new())
        },
    },
];

fn dropped(it: &Place<'_>, time: Duration) -> Result<String, String> {
    it.machine.lose_what_goes_to(it.net.database())?;
    pause(time);
    it.machine.find_again(it.net.database())?;
    Ok(String::new())
}

fn pulled(it: &Place<'_>, time: Duration) -> Result<String, String> {
    it.machine.cable(false)?;
    pause(time);
    it.machine.cable(true)?;
    Ok(String::new())
}

pub(crate) fn run(wishes: &Wishes) -> Result<String, String> {
    let binary = wishes.everstate.clone().ok_or("no binary was given: --everstate PATH")?;
    let net = match Net::make(NODES) {
        Ok(net) => net,
        Err(why) => return Ok(format!("skipped: no network of our own can be made here: {why}\n")),
    };
    eprintln!("one PostgreSQL, three nodes, each in a network namespace");
    let cluster = Cluster::start();
    let relay = Relay::start(net.database(), (LOOPBACK, cluster.port()));
    let store =
        format!("postgres://everstate@{}:{}/{}", net.database(), relay.port, cluster.fresh_name());
    let tool = Tool::start_at(net.tools());
    let mut nodes = Vec::new();
    for n in 0..usize::from(NODES) {
        let (machine, name) = (net.machine(n), format!("node-{n}"));
        let places = ((machine.host, 7070), (net.tools(), tool.port));
        let command = machine.command(&binary);
        let node = Node::start_by(command, &wishes.folder, &name, &store, places);
        nodes.push(node.map_err(|it| format!("{name} does not start: {it}"))?);
    }
    rested(&nodes)?;
    let seen = Arc::new(Seen::default());
    let talking = clients(&nodes, &seen);
    let chosen: Vec<&Cut> = CUTS.iter().filter(|it| it.name.contains(&wishes.only)).collect();
    let rounds = wishes.rounds.unwrap_or(chosen.len());
    let mut report = String::from(
        "| fault | turns meanwhile | until all had their shares again, s | |\n| --- | ---: | ---: | --- |\n",
    );
    for (n, cut) in chosen.iter().cycle().take(rounds).enumerate() {
        let machine = net.machine(n % usize::from(NODES));
        let before = more_turns(&seen, CLIENTS)?;
        let said = (cut.happens)(&Place { machine, net: &net, relay: &relay })?;
        let after = seen.turns.load(Ordering::Relaxed);
        let began = Instant::now();
        rested(&nodes)?;
        let took = began.elapsed().as_secs_f64();
        writeln!(report, "| {} | {} | {took:.1} | {said} |", cut.name, after - before).unwrap();
        eprintln!("{}: {} turns meanwhile {said}", cut.name, after - before);
        more_turns(&seen, CLIENTS)?;
    }
    judge(report, talking, &seen, &tool)
}

/// Waits until every node sees all of them, with all buckets shared out.
fn rested(nodes: &[Node]) -> Result<(), String> {
    let end = Instant::now() + REST;
    let is_rested = |node: &Node| {
        let told = http::get(node.at, "/everstate/v1/nodes").unwrap_or_default();
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        let all = told["items"].as_array().cloned().unwrap_or_default();
        let calm =
            |it: &&Value| it["state"] == "alive" && it["buckets_moving"] == 0 && it["lag"] == 0;
        let owned: u64 = all.iter().filter(calm).filter_map(|it| it["buckets"].as_u64()).sum();
        all.len() == nodes.len() && owned == 1_024
    };
    while !nodes.iter().all(is_rested) {
        if Instant::now() > end {
            let told = nodes.iter().map(|it| http::get(it.at, "/everstate/v1/nodes"));
            return Err(format!("the nodes do not come to rest: {:?}", told.collect::<Vec<_>>()));
        }
        pause(Duration::from_millis(200));
    }
    Ok(())
}
