//! What a server costs that nobody asks anything.

use std::fs;
use std::time::Duration;

use crate::Around;
use crate::figures::{count, ms, table};
use crate::process::{self, Server};

pub(crate) fn run(around: &Around) -> String {
    let Some(everstate) = &around.everstate else {
        return "Not measured: no binary was given (`--everstate PATH`).\n".to_owned();
    };
    let many: u64 = if around.quick { 200 } else { 100_000 };
    let watch = Duration::from_secs(if around.quick { 1 } else { 20 });
    let mut rows = Vec::new();
    for sessions in [0, many] {
        let folder = around.folder.join(sessions.to_string());
        fs::create_dir_all(&folder).unwrap();
        if sessions > 0 {
            let n = sessions.to_string();
            process::output(&mut process::errand("fill", &[folder.to_str().unwrap(), &n]));
        }
        // The first start makes keys and schema; the ones after are measured.
        let mut ready: Vec<Duration> =
            (0..6).map(|_| Server::start(everstate, &folder, "").ready_after).skip(1).collect();
        ready.sort();
        let server = Server::start(everstate, &folder, "");
        std::thread::sleep(Duration::from_secs(2));
        let before = (server.proc("io", "write_bytes"), server.worked());
        std::thread::sleep(watch);
        let wrote = server.proc("io", "write_bytes") - before.0;
        let worked = server.worked() - before.1;
        let state = fs::metadata(folder.join("state.db")).unwrap().len();
        rows.push(vec![
            format!("{} sessions", count(sessions as f64)),
            format!("{:.0}", state as f64 / 1e6),
            ms(ready[ready.len() / 2]),
            format!("{:.1}", server.proc("status", "VmRSS") as f64 / 1024.0),
            format!("{:.1}", server.proc("status", "RssAnon") as f64 / 1024.0),
            wrote.to_string(),
            format!("{}", worked.as_millis()),
        ]);
    }
    let head = [
        "store",
        "state.db MB",
        "ready after ms",
        "resident MiB",
        "of it its own (not mapped files)",
        "bytes written",
        "processor ms",
    ];
    format!(
        "`everstate serve` with SQLite. Ready is the first 200 of `/readyz`, from the start of the process, median of \
         five; the page cache is warm. Memory after {} s without a request; what was written and worked in the last {} \
         of them.\n\n{}\n",
        watch.as_secs() + 2,
        watch.as_secs(),
        table(&head, &rows)
    )
}
