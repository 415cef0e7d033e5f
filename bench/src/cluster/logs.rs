//! How many appends a second PostgreSQL acknowledges, from one, two and three nodes, each a process of its own; and plain
//! inserts beside them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::append::{shown, through_log};
use crate::database::Database;
use crate::figures::{count, table};
use crate::{Around, cluster, process};

const NODES: [u64; 3] = [1, 2, 3];
const SESSIONS: [u64; 3] = [1, 64, 512];

pub(crate) fn run(around: &Around) -> String {
    let database = Database::start(&around.folder);
    let lasts: u64 = if around.quick { 1 } else { 4 };
    let raw = raw(around, &database, lasts);
    let mut rows = Vec::new();
    for n_nodes in NODES {
        for sessions in SESSIONS {
            let name = format!("logs_{n_nodes}_{sessions}");
            let url = database.create(&name);
            // Who comes first makes the schema and the keys.
            crate::runtime().block_on(cluster::store(&url, &around.folder));
            let children: Vec<_> = (0..n_nodes)
                .map(|node| {
                    let words = [node, sessions, lasts * 1_000].map(|it| it.to_string());
                    let mut errand = process::errand("pg-append", &[&url]);
                    errand.arg(&around.folder).args(words);
                    std::thread::spawn(move || process::output(&mut errand))
                })
                .collect();
            let told: Vec<Value> = children
                .into_iter()
                .map(|it| serde_json::from_str(&it.join().unwrap()).unwrap())
                .collect();
            let sum: f64 = told.iter().map(|it| it["per_second"].as_f64().unwrap()).sum();
            let of = |name: &str| {
                let all: Vec<&str> = told.iter().map(|it| it[name].as_str().unwrap()).collect();
                all.join(" / ")
            };
            rows.push(vec![
                format!("{n_nodes} nodes, {sessions} sessions each"),
                count(sum),
                of("p50_ms"),
                of("p99_ms"),
            ]);
            database.ask("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
    format!(
        "An append is a row of 1 KiB, sealed and chained, acknowledged after the commit (`fsync` and `synchronous_commit` \
         are on). Each node is a process; they, the load and PostgreSQL {} share the machine. Plain inserts of 1 KiB rows \
         with a primary key by pgbench, one row a commit: {raw}.\n\n{}\n",
        Database::version(),
        table(&["nodes", "appends a second", "p50 ms, each node", "p99 ms, each node"], &rows)
    )
}

fn raw(around: &Around, database: &Database, lasts: u64) -> String {
    let name = "raw";
    database.create(name);
    database.ask(
        name,
        "CREATE TABLE event (session bigint, seq bigserial, body bytea NOT NULL, PRIMARY KEY (session, seq))",
    );
    let script = around.folder.join("raw.sql");
    let body = "61".repeat(1_024);
    let insert = format!(
        "\\set session random(1, 512)\nINSERT INTO event (session, body) VALUES (:session, '\\x{body}');\n"
    );
    std::fs::write(&script, insert).unwrap();
    let told = [1, 16, 64].map(|clients| {
        let said = database.pgbench(name, &script, clients, lasts);
        let tps = said.lines().find_map(|it| it.strip_prefix("tps = ")).expect("pgbench says so");
        let tps: f64 = tps.split_whitespace().next().unwrap().parse().unwrap();
        format!("{} a second with {clients} clients", count(tps))
    });
    told.join(", ")
}

/// `pg-append URL FOLDER NODE SESSIONS MILLISECONDS`: prints the figures as JSON.
pub(crate) fn errand(arguments: &[String]) {
    let [url, folder, node, sessions, lasts] = arguments else {
        panic!("pg-append URL FOLDER NODE SESSIONS MILLISECONDS")
    };
    let number = |it: &String| it.parse::<u64>().unwrap();
    let (first, lasts) = (number(node) << 24, Duration::from_millis(number(lasts)));
    let told: Value = crate::runtime().block_on(async {
        let store = cluster::store(url, Path::new(folder)).await;
        let took = through_log(&store.log, first..first + number(sessions), lasts).await;
        shown(took)
    });
    println!("{}", json!(told));
}
