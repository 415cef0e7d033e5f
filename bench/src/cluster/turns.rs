//! Durable steps: turns through the HTTP API of one, two and three nodes on one PostgreSQL, and the same turns by the
//! peers, one after the other on the same machine.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::peers::{PEERS, Stage, Told};
use crate::database::Database;
use crate::figures::{Took, count, table};
use crate::http::ToolServer;
use crate::process::Server;
use crate::{Around, cluster, steps};

const NODES: [usize; 3] = [1, 2, 3];
const CLIENTS: [usize; 3] = [1, 16, 64];
const RESULT: usize = 1_024;

/// A name, and what it did with so many clients.
struct Row {
    title: String,
    clients: usize,
    told: Told,
}

pub(crate) fn run(around: &Around) -> String {
    let (Some(everstate), Some(_)) = (&around.everstate, &around.peers) else {
        return "Not measured: the binary or the peers are not there (`--everstate PATH`, `--peers DIR`).\n"
            .to_owned();
    };
    let database = Database::start(&around.folder);
    let seconds = if around.quick { 1.0 } else { 6.0 };
    let stage = Stage { around, database: &database, seconds };
    let mut all = Vec::new();
    for n_nodes in NODES {
        for clients in CLIENTS {
            let title = format!("Everstate, {n_nodes} node{}", if n_nodes == 1 { "" } else { "s" });
            eprintln!("   {title}, {clients} clients");
            let told = crate::runtime().block_on(nodes(&stage, everstate, n_nodes, clients));
            all.push(Row { title, clients, told });
        }
    }
    for peer in PEERS {
        for clients in CLIENTS {
            eprintln!("   {}, {clients} clients", peer.title);
            let told = peer.play(&stage, clients);
            all.push(Row { title: peer.title.to_owned(), clients, told });
        }
    }
    let one_node = |clients: usize| {
        let row = all.iter().find(|it| it.clients == clients).expect("it was measured first");
        row.told.per_second
    };
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|Row { title, clients, told }| {
            vec![
                format!("{title}, {clients}"),
                count(told.per_second),
                format!("{:.2}", told.p50_ms),
                format!("{:.2}", told.p99_ms),
                format!("{:.2}", told.per_second / one_node(*clients)),
            ]
        })
        .collect();
    let head = ["clients", "steps a second", "p50 ms", "p99 ms", "beside one node"];
    format!(
        "A turn has ten steps, a step three durable writes: placed; replied, with the start of the tool; the tool's result \
         of 1 KiB. Ours come in by `POST /v1/responses`, in the foreground; the model is the rehearsal, asked and answered \
         as a stream, the tool is called over HTTP; the first two writes of a step are one append where they can be. A \
         peer's write is its own smallest durable thing: `ctx.run` of Restate, a step of DBOS and of Absurd, a superstep \
         with its checkpoint of LangGraph. They ask no model and call no tool over HTTP; those in Python have a process \
         for each core. Restate keeps its own log on the same disk, the others and we use the same PostgreSQL {}, one \
         after the other. Everything shares the machine's cores: the database, the nodes, the load; more nodes on them \
         cannot be faster.\n\n{}\n",
        Database::version(),
        table(&head, &rows)
    )
}

async fn nodes(stage: &Stage<'_>, everstate: &Path, n_nodes: usize, clients: usize) -> Told {
    let tools = ToolServer::start(RESULT).await;
    let url = stage.database.create(&format!("everstate_{n_nodes}_{clients}"));
    let config = steps::config(tools.port);
    let servers: Vec<Server> = (0..n_nodes)
        .map(|n| Server::node(everstate, &stage.around.folder, &config, &url, &format!("node-{n}")))
        .collect();
    let ports: Vec<u16> = servers.iter().map(|it| it.port).collect();
    // Each has its share before anybody is timed: a caller may be cut off where a session changes hands.
    cluster::settle(&servers[0]).await;
    let body = steps::request("");
    let warm = Duration::from_secs_f64(stage.seconds.min(1.0));
    steps::drive(&ports, clients, &body, warm).await;
    tools.take();
    let began = Instant::now();
    steps::drive(&ports, clients, &body, Duration::from_secs_f64(stage.seconds)).await;
    let all = began.elapsed();
    let n_calls = tools.calls();
    let mut took = Took { all, each: tools.take() };
    let at = |it: Duration| it.as_secs_f64() * 1e3;
    Told {
        per_second: n_calls as f64 / took.all.as_secs_f64(),
        p50_ms: at(took.at(0.5)),
        p99_ms: at(took.at(0.99)),
    }
}
