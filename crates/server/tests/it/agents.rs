//! `/v1/agents/sessions`, as its official clients use it.

mod bad;
mod lists;
mod repeats;
mod sessions;
mod streams;
mod twins;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::server::{Answer, Server, read_events};

pub(crate) const PATH: &str = "/v1/agents/sessions";

/// A model that answers with a schema, thinks aloud before it calls, hangs, and takes its time.
pub(crate) const STAGE: &str = r#"
[[providers.rehearsal.script.rules]]
when = { says_exactly = "hang" }
text = "one two three four"
broken = "hang"
after_pieces = 2
[[providers.rehearsal.script.rules]]
when = { says_exactly = "slow" }
text = "a b c d e f"
delay_ms = 20
[[providers.rehearsal.script.rules]]
when = { says_exactly = "look first", results = false }
text = "I will look."
calls = [{ name = "look", arguments = { at = "sky" } }]
[providers.rehearsal]
kind = "rehearsal"
"#;

/// The body of a session that says this.
pub(crate) fn session(input: impl Into<Value>) -> Value {
    json!({ "environment": { "type": "none" }, "agent": { "model": "rehearsal" }, "input": input.into() })
}

pub(crate) fn function(name: &str) -> Value {
    let parameters = json!({ "type": "object", "properties": {} });
    json!({ "type": "function", "name": name, "description": "Does it.", "parameters": parameters })
}

/// The body of a session whose agent has these functions.
pub(crate) fn with_tools(input: impl Into<Value>, names: &[&str]) -> Value {
    let mut body = session(input);
    body["agent"]["tools"] = names.iter().map(|it| function(it)).collect();
    body
}

pub(crate) fn message(text: &str) -> Value {
    let content = json!([{ "type": "input_text", "text": text }]);
    json!({ "type": "agent.session.input.message", "input": [{ "role": "user", "content": content }] })
}

/// What a client sends after it ran the function that this event asked for.
pub(crate) fn result(call: &Value, output: &str) -> Value {
    json!({
        "type": "agent.session.input.tool_result", "turn_id": call["turn_id"], "call_id": call["call_id"],
        "success": true, "output": output,
    })
}

impl Server {
    pub(crate) async fn new_session(&self, body: Value) -> Value {
        let answer = self.post(PATH, body).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        answer.json
    }

    pub(crate) async fn tell(&self, session: &Value, events: Value) -> Answer {
        let path = format!("{PATH}/{}/events", session["id"].as_str().unwrap());
        self.post(&path, json!({ "events": events })).await
    }

    /// The session, once it stands like this.
    pub(crate) async fn until(&self, session: &Value, status: &str) -> Value {
        let path = format!("{PATH}/{}", session["id"].as_str().unwrap());
        loop {
            let answer = self.get(&path).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            if answer.json["status"] == status {
                return answer.json;
            }
            tokio::task::yield_now().await;
        }
    }

    /// A session that was told to say this, and has.
    pub(crate) async fn idle(&self, body: Value) -> Value {
        let made = self.new_session(body).await;
        self.until(&made, "idle").await
    }

    pub(crate) async fn listen(&self, session: &Value, query: &str) -> Stream {
        let path = format!("{PATH}/{}/events{query}", session["id"].as_str().unwrap());
        Stream::of(self.ask(Method::GET, &path).send().await.unwrap())
    }

    pub(crate) async fn open(&self, body: Value) -> Stream {
        Stream::of(self.send(PATH, body, &[]).await)
    }

    /// All rows of a list, in both orders, page after page; they have to be the same.
    pub(crate) async fn rows(&self, path: &str) -> Vec<Value> {
        let mut orders = Vec::new();
        for order in ["asc", "desc"] {
            let mut rows: Vec<Value> = Vec::new();
            loop {
                let glue = if path.contains('?') { '&' } else { '?' };
                let after = match rows.last() {
                    Some(last) => format!("&after={}", last["id"].as_str().unwrap()),
                    None => String::new(),
                };
                let page = self.get(&format!("{path}{glue}order={order}&limit=3{after}")).await;
                assert_eq!(page.status, 200, "{}", page.json);
                let data = page.json["data"].as_array().unwrap();
                let id = |it: Option<&Value>| it.map_or(Value::Null, |it| it["id"].clone());
                assert_eq!(page.json["first_id"], id(data.first()));
                assert_eq!(page.json["last_id"], id(data.last()));
                rows.extend(data.iter().cloned());
                if page.json["has_more"] == false {
                    break;
                }
                assert_eq!(data.len(), 3);
            }
            orders.push(rows);
        }
        let mut newest_first = orders.pop().unwrap();
        newest_first.reverse();
        assert_eq!(orders[0], newest_first);
        newest_first
    }
}

/// A stream of a session's events, read event by event.
pub(crate) struct Stream {
    chunks: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
    pub(crate) told: Vec<Value>,
}

impl Stream {
    pub(crate) fn of(response: Response) -> Stream {
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Stream { chunks: response.bytes_stream().boxed(), text: String::new(), told: Vec::new() }
    }

    /// `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                // Some clients die of these.
                assert!(!event.lines().any(|it| it.starts_with("id:") || it.starts_with("retry:")));
                let event = read_events(event).pop();
                self.text = rest.to_owned();
                if let Some(event) = event {
                    self.told.push(event.clone());
                    return Some(event);
                }
            }
            let chunk = self.chunks.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event of this kind.
    pub(crate) async fn find(&mut self, kind: &str) -> Value {
        loop {
            let event =
                self.next().await.unwrap_or_else(|| panic!("no {kind} in {:#?}", self.told));
            if short(&event) == kind {
                return event;
            }
        }
    }

    /// The next call of a function.
    pub(crate) async fn call(&mut self) -> Value {
        loop {
            let event = self.find("turn.item.added").await;
            if event["item"]["type"] == "function_call" {
                return event["item"].clone();
            }
        }
    }

    /// Everything up to the end.
    pub(crate) async fn rest(mut self) -> Vec<Value> {
        while self.next().await.is_some() {}
        self.told
    }

    /// The kinds of all events that were read.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.told.iter().map(short).collect()
    }
}

pub(crate) fn short(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap();
    kind.strip_prefix("agent.session.").unwrap_or(kind).to_owned()
}

/// What the agent said in the end.
pub(crate) fn answer(events: &[Value]) -> String {
    let said = events.iter().filter(|it| short(it) == "turn.item.done");
    let said = said.filter(|it| it["item"]["phase"] == "final_answer");
    let parts = said.flat_map(|it| it["item"]["content"].as_array().unwrap());
    parts.map(|it| it["text"].as_str().unwrap()).collect()
}
