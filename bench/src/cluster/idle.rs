//! What ten nodes ask of the database while nobody asks anything of them.

use std::time::Duration;

use crate::Around;
use crate::database::Database;
use crate::figures::table;
use crate::process::Server;

const NODES: usize = 10;

pub(crate) fn run(around: &Around) -> String {
    let Some(everstate) = &around.everstate else {
        return "Not measured: no binary was given (`--everstate PATH`).\n".to_owned();
    };
    let seconds: u64 = if around.quick { 5 } else { 60 };
    let database = Database::start(&around.folder);
    let url = database.create("idle");
    let nodes: Vec<Server> = (0..NODES)
        .map(|n| Server::node(everstate, &around.folder, "", &url, &format!("node-{n}")))
        .collect();
    // They share out the buckets first.
    std::thread::sleep(Duration::from_secs(if around.quick { 5 } else { 30 }));
    let number = |sql: &str| database.ask("postgres", sql).parse::<f64>().unwrap();
    let ours = "FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = 'idle' \
                AND query NOT LIKE '%pg_stat%'";
    let commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'idle'";
    database.ask("postgres", "SELECT pg_stat_statements_reset()");
    let n_commits = number(commits);
    let worked: Vec<Duration> = nodes.iter().map(Server::worked).collect();
    std::thread::sleep(Duration::from_secs(seconds));
    let n_commits = number(commits) - n_commits;
    let worked: Duration =
        nodes.iter().zip(worked).map(|(node, before)| node.worked() - before).sum();
    let calls = number(&format!("SELECT coalesce(sum(calls), 0) {ours}"));
    let millis = number(&format!("SELECT coalesce(sum(total_exec_time), 0) {ours}"));
    let most = database.ask(
        "postgres",
        &format!(
            "SELECT sum(calls), left(regexp_replace(query, '\\s+', ' ', 'g'), 90) {ours} \
             GROUP BY 2 ORDER BY 1 DESC LIMIT 8"
        ),
    );
    let seconds = seconds as f64;
    let per_second = |n: f64| format!("{:.1}", n / seconds);
    let rows: Vec<Vec<String>> = most
        .lines()
        .filter_map(|it| it.split_once('|'))
        .map(|(n, query)| vec![format!("`{query}`"), per_second(n.parse().unwrap_or(0.0))])
        .collect();
    format!(
        "{NODES} nodes without a session on one database, for {seconds} s: {} statements a second, {} a node; {} commits a \
         second; the database spends {:.2} ms of a second on the statements, all nodes together {:.1} ms of processor \
         time. The most frequent:\n\n{}\n",
        per_second(calls),
        per_second(calls / NODES as f64),
        per_second(n_commits),
        millis / seconds,
        worked.as_secs_f64() * 1e3 / seconds,
        table(&["statement", "a second"], &rows)
    )
}
