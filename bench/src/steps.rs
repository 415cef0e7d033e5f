//! Durable steps as a client of the HTTP API gets them: a turn of ten tool calls and an answer, with the rehearsal as
//! the model and a tool server on loopback. Client, tool server and server share the machine.

use std::time::{Duration, Instant};

use crate::Around;
use crate::figures::{Took, count, ms, table};
use crate::http::{Client, ToolServer};
use crate::process::Server;
use crate::world::TOOL;

const STEPS: u64 = 10;
const RESULT: usize = 1_024;
const CLIENTS: [usize; 3] = [1, 16, 64];

/// A model that calls the tool in each of the first ten steps, and answers in the eleventh.
pub(crate) fn config(tool_port: u16) -> String {
    config_of(tool_port, STEPS)
}

/// The same with so many steps.
pub(crate) fn config_of(tool_port: u16, steps: u64) -> String {
    format!(
        r#"
[providers.stage]
kind = "rehearsal"

[[providers.stage.script.rules]]
when = {{ step = {{ from = 1, times = {steps} }}, says = "work" }}
calls = [{{ name = "{TOOL}", arguments = {{ step = "{{step}}" }} }}]

[[providers.stage.script.rules]]
text = "done"

[[offers]]
model = "bench"
provider = "stage"
context_tokens = 10000000

[[offers]]
model = "slow"
provider = "stage"

[[offers]]
model = "quick"
provider = "stage"

[[tools]]
name = "{TOOL}"
description = "Does some work."
method = "POST"
url = "http://127.0.0.1:{tool_port}/work"
safety = "idempotent"
allow_private = true
parameters = {{ type = "object", properties = {{ step = {{ type = "string" }} }} }}
"#
    )
}

pub(crate) fn run(around: &Around) -> String {
    let Some(everstate) = &around.everstate else {
        return "Not measured: no binary was given (`--everstate PATH`).\n".to_owned();
    };
    let mut rows = Vec::new();
    for (mode, words) in
        [("", "foreground"), (", \"background\": true, \"stream\": true", "background, streamed")]
    {
        for clients in CLIENTS {
            let folder = around.folder.join(format!("{clients}{}", mode.len()));
            std::fs::create_dir_all(&folder).unwrap();
            let (took, turns, worked) = crate::runtime().block_on(async {
                let tools = ToolServer::start(RESULT).await;
                let server = Server::start(everstate, &folder, &config(tools.port));
                let body = request(mode);
                let lasts = |ms| Duration::from_millis(if around.quick { 200 } else { ms });
                drive(&[server.port], clients, &body, lasts(1_000)).await;
                let n_before = tools.calls();
                tools.take();
                let worked = server.worked();
                let began = Instant::now();
                let turns = drive(&[server.port], clients, &body, lasts(6_000)).await;
                let all = began.elapsed();
                let worked = (server.worked() - worked).as_secs_f64();
                let n_calls = tools.calls();
                let each = tools.take();
                assert!(n_before > 0 && !each.is_empty(), "the tool was called");
                (StepsTook { took: Took { each, all }, n_calls }, turns, worked)
            });
            let StepsTook { mut took, n_calls } = took;
            rows.push(vec![
                format!("{words}, {clients}"),
                count(n_calls as f64 / took.all.as_secs_f64()),
                ms(took.at(0.5)),
                ms(took.at(0.99)),
                count(turns as f64 / took.all.as_secs_f64()),
                format!("{:.2}", worked / took.all.as_secs_f64()),
                count(worked * 1e6 / n_calls as f64),
            ]);
        }
    }
    let head = [
        "clients",
        "steps a second",
        "p50 ms",
        "p99 ms",
        "turns a second",
        "server, cores",
        "server, us a step",
    ];
    format!(
        "A turn has ten steps with a tool call each, whose result is 1 KiB, and an answer; `POST /v1/responses`, a \
         session for each turn. A step's time is from one call's arrival at the tool server to the next one's: the \
         result is on disk, the next place chosen and on disk, the model asked, its answer and the start of the next \
         tool on disk, the tool called. In the background what is streamed is on disk too, before it is shown. Client, \
         tool server and server share the machine; the last columns say how much of it the server takes.\n\n{}\n\
         Peers, measured elsewhere on two cores, ten steps with 1 KiB results, their client beside the server: Restate \
         1.7.12 1,173 steps a second one at a time, 3,502 at 16, 4,950 at 64; Absurd 0.5.1 1,467 one at a time, 2,413 \
         at 8; LangGraph 1.2.22 with durability=sync on PostgreSQL 1,316 one at a time, 1,329 at 8; DBOS 3.4.0 799 one \
         at a time, 677 at 16. Their steps ask no model and call no tool over HTTP.\n",
        table(&head, &rows)
    )
}

/// Each request is another one: equal ones would be taken for repeats, and wait for each other.
pub(crate) fn request(mode: &str) -> String {
    format!(
        "{{\"model\": \"bench\", \"input\": \"work NUMBER\"{mode}, \"tools\": [{{\"type\": \"mcp\", \
         \"server_label\": \"everstate\", \"allowed_tools\": [\"{TOOL}\"], \"require_approval\": \"never\"}}]}}"
    )
}

struct StepsTook {
    took: Took,
    n_calls: u64,
}

/// How many turns came to their end. A client keeps to one of the ports.
pub(crate) async fn drive(ports: &[u16], clients: usize, body: &str, lasts: Duration) -> u64 {
    let end = Instant::now() + lasts;
    let mut tasks = Vec::new();
    for n in 0..clients {
        let body = body.replace("NUMBER", &format!("{n}/TURN"));
        let port = ports[n % ports.len()];
        tasks.push(tokio::spawn(async move {
            let mut client = Client::connect(port).await;
            let mut turns = 0;
            while Instant::now() < end {
                let body = body.replace("TURN", &turns.to_string());
                let (status, answer) = client.post("/v1/responses", &body).await;
                let answer = String::from_utf8_lossy(&answer);
                assert!(status == 200 && answer.contains("completed"), "{status} {answer}");
                turns += 1;
            }
            turns
        }));
    }
    let mut turns = 0;
    for task in tasks {
        turns += task.await.unwrap();
    }
    turns
}
