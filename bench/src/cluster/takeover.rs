//! How long a node's turns stand still when it is killed: from `kill -9` to the first thing another node does for them.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::figures::{Took, ms, table};
use crate::http::{Client, ToolServer};
use crate::process::Server;
use crate::steps;
use crate::{Around, cluster};

/// What becomes of the node that was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    StaysAway,
    /// Started again at once, under its name.
    ComesBack,
}

pub(crate) fn run(around: &Around) -> String {
    let Some(everstate) = &around.everstate else {
        return "Not measured: no binary was given (`--everstate PATH`).\n".to_owned();
    };
    let (kills, turns) = if around.quick { (1, 8) } else { (6, 100) };
    let mut rows = Vec::new();
    let database = Database::start(&around.folder);
    for (after, words) in [
        (After::StaysAway, "it stays away: two others take over"),
        (After::ComesBack, "it is started again at once, under its name"),
    ] {
        let mut took = Took::default();
        for kill in 0..kills {
            eprintln!("   {words}: {} of {kills}", kill + 1);
            let url = database.create(&format!("takeover_{}_{kill}", rows.len()));
            let each = crate::runtime().block_on(once(around, everstate, &url, turns, after));
            took.each.extend(each);
        }
        rows.push(vec![
            words.to_owned(),
            ms(took.at(0.0)),
            ms(took.at(0.5)),
            ms(took.at(0.99)),
            ms(took.at(1.0)),
        ]);
    }
    let head = ["the killed node", "first ms", "p50 ms", "p99 ms", "last ms"];
    format!(
        "Three nodes, {turns} turns of one of them in the middle of a tool; it is killed with `kill -9`, {kills} times. \
         Measured is until the tool is called again for a turn: by then `Owned` is on disk. The lease is 10 s.\n\n{}\n",
        table(&head, &rows)
    )
}

/// How long each turn stood still.
async fn once(
    around: &Around,
    everstate: &Path,
    url: &str,
    turns: usize,
    after: After,
) -> Vec<Duration> {
    let tools = ToolServer::start(100).await;
    let config = steps::config_of(tools.port, 1);
    let start = |name: &str| Server::node(everstate, &around.folder, &config, url, name);
    let victim = start("node-0");
    let _others = [start("node-1"), start("node-2")];
    // Each has its share once the assignment has settled.
    cluster::settle(&victim).await;
    tools.hold(true);
    let mut client = Client::connect(victim.port).await;
    let body = steps::request(", \"background\": true");
    for turn in 0..turns {
        let (status, answer) =
            client.post("/v1/responses", &body.replace("NUMBER", &turn.to_string())).await;
        assert!(status == 200, "{status} {}", String::from_utf8_lossy(&answer));
    }
    wait_until("all are in their tool", || tools.turns() == turns).await;
    tools.hold(false);
    let killed = Instant::now();
    drop(victim);
    let _back = (after == After::ComesBack).then(|| start("node-0"));
    wait_until("all go on", || tools.called_after(killed).len() == turns).await;
    tools.called_after(killed)
}

async fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < end, "it never happens that {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
