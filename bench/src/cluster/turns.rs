//! Durable steps: turns through the HTTP API of one, two and three nodes on one PostgreSQL, and the same turns by the
//! peers, one after the other on the same machine.

use crate::Around;
use crate::cluster::peers::{PEERS, Stage};
use crate::database::Database;
use crate::figures::{count, table};

const CLIENTS: [usize; 3] = [1, 16, 64];

pub(crate) fn run(around: &Around) -> String {
    if around.peers.is_none() {
        return "Not measured: the peers are not installed (`--peers DIR`).\n".to_owned();
    }
    let database = Database::start(&around.folder);
    let seconds = if around.quick { 1.0 } else { 6.0 };
    let stage = Stage { around, database: &database, seconds };
    let mut rows = Vec::new();
    for peer in PEERS {
        for clients in CLIENTS {
            eprintln!("   {}, {clients} clients", peer.title);
            let told = peer.play(&stage, clients);
            rows.push(vec![
                format!("{}, {clients}", peer.title),
                count(told.per_second),
                format!("{:.2}", told.p50_ms),
                format!("{:.2}", told.p99_ms),
            ]);
        }
    }
    let head = ["clients", "steps a second", "p50 ms", "p99 ms"];
    format!(
        "A turn has ten steps, a step three durable writes: placed; replied, with the start of the tool; the tool's result \
         of 1 KiB. A peer's write is its own smallest durable thing: `ctx.run` of Restate, a step of DBOS and of Absurd, a \
         superstep with its checkpoint of LangGraph. They ask no model and call no tool over HTTP; those in Python have a \
         process for each core. Restate keeps its own log on the same disk, the others use the same PostgreSQL {}.\n\n{}\n",
        Database::version(),
        table(&head, &rows)
    )
}
