//! Recorded traffic through the whole house: what real clients asked is understood at our door, and what real models
//! answered reaches our clients as it was said.

use everstate_dialects::responses::request::{InputItem, read_create};
use everstate_kernel::delta::{Delta, Finish, Piece};
use serde_json::{Value, json};

use crate::cassettes::{self, say};
use crate::decode::{final_response, fold, hear, is_responses, told_responses};
use crate::play::{Play, Row, tell};

#[test]
fn recorded_requests_are_understood() {
    let Some(recorded) = cassettes::all() else { return };
    let (mut n, mut complaints) = (0, Vec::new());
    for it in recorded.exchanges.iter().filter(|it| is_responses(it) && it.request.is_object()) {
        n += 1;
        match read_create(it.request.to_string().as_bytes()) {
            Ok(request) => {
                let items = it.request["input"].as_array().map_or(1, Vec::len);
                let told = request.input.len();
                // A call that a tool server ran is a call and a result.
                let doubled = request.input.iter().filter(|it| {
                    matches!(it, InputItem::New(new) if new.extra.as_ref().is_some_and(|it| it.text().contains("server_label")))
                });
                if !it.request["input"].is_null() {
                    assert_eq!(told, items + doubled.count(), "{}", it.cassette);
                }
                let echo = request.echo.value();
                assert_eq!(echo["model"], it.request["model"], "{}", it.cassette);
            }
            Err(complaint) => complaints.push(format!("{}: {complaint}", it.cassette)),
        }
    }
    say(&format!("{n} recorded requests; complaints: {complaints:#?}"));
    assert!(n >= 60);
    assert!(complaints.len() <= 2, "{complaints:#?}");
}

/// Without what is ours to name.
fn bare(response: &Value) -> Value {
    let mut told = told_responses(response);
    for item in told.as_array_mut().expect("a list") {
        let Some(fields) = item.as_object_mut() else { continue };
        fields.remove("id");
    }
    told
}

#[test]
fn recorded_answers_reach_our_clients_as_they_were_said() {
    let Some(recorded) = cassettes::all() else { return };
    let mut n = 0;
    for it in recorded.exchanges.iter().filter(|it| is_responses(it) && it.status == 200) {
        let body = it.body.bytes();
        let (pieces, end) = hear("responses", [body.as_slice()]);
        let expected = final_response(&it.body).expect("an answer");
        let (_, reply) = fold(&pieces);
        let Some(reply) = reply.filter(|it| end.is_ok() && it.finish == Finish::Stop) else {
            continue;
        };
        if expected["output"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        let deltas: Vec<Delta> = pieces
            .iter()
            .filter_map(|it| match it {
                Piece::Delta(delta) => Some(delta.clone()),
                Piece::End(_) => None,
            })
            .collect();
        let tools: Vec<Value> = expected["output"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|it| it["type"] == "function_call")
            .map(|it| json!({"type": "function", "name": it["name"]}))
            .collect();
        let mut play = Play::new();
        play.ask(&json!({"model": "m", "input": "Hi", "tools": tools}).to_string()).placed();
        for part in deltas.chunks(7) {
            play.show(part);
        }
        play.replied();
        assert_eq!(reply.finish, Finish::Stop);
        let (events, response) = tell(&play.rows, 1, true);
        let (_, without) = tell(&play.rows, 1, false);
        assert_eq!(response, without, "{}", it.cassette);
        assert_eq!(bare(&response), bare(&expected), "{}", it.cassette);
        assert!(events.iter().all(|it| !it.data.contains('\n')), "{}", it.cassette);
        assert!(play.rows.iter().any(|it| matches!(it, Row::Frame(_))));
        n += 1;
    }
    say(&format!("{n} recorded answers told again"));
    assert!(n >= 50);
}
