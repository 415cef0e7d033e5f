//! Sessions that travel from one installation to another.

use everstate_server::bundle::case::{Found, Reader, Writer};
use everstate_server::bundle::seal::{Identity, Recipient};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Answer, Server, item, read, text_of};

const IMPORT: &str = "/everstate/v1/sessions/import";

async fn export(server: &Server, session: &str, how: &str) -> Vec<u8> {
    let path = format!("/everstate/v1/sessions/{session}/export?{how}");
    let response = server.ask(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    response.bytes().await.unwrap().into()
}

async fn import(server: &Server, bundle: &[u8], headers: &[(&str, &str)]) -> Answer {
    let mut request = server.ask(Method::POST, IMPORT).body(bundle.to_vec());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request.send().await.unwrap()).await
}

async fn newest(server: &Server) -> String {
    let list = server.get("/everstate/v1/sessions").await.json;
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

async fn verified(server: &Server, session: &str) -> Value {
    let told = server.get(&format!("/everstate/v1/sessions/{session}/verify")).await.json;
    assert_eq!((&told["ok"], &told["broken"]), (&json!(true), &Value::Null), "{told}");
    told
}

/// What is in a plain bundle, taken out of its case.
fn inside(bundle: &[u8], identity: Option<&Identity>) -> Vec<u8> {
    let mut reader = Reader::new(identity);
    reader.push(bundle).unwrap();
    let mut inside = Vec::new();
    loop {
        match reader.step().unwrap().expect("it is whole") {
            Found::Head(_) => {}
            Found::Bytes(bytes) => inside.extend(bytes),
            Found::End => return inside,
        }
    }
}

fn in_case(inside: &[u8], to: Option<&Recipient>) -> Vec<u8> {
    let (mut writer, mut bundle) = Writer::new(to).unwrap();
    bundle.extend(writer.write(inside));
    bundle.extend(writer.end());
    bundle
}

fn has(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|it| it == needle.as_bytes())
}

/// A task with a client's call open.
async fn asked(server: &Server) -> Value {
    let tools =
        json!([{ "type": "function", "name": "weather", "parameters": { "type": "object" } }]);
    let asked = server
        .create(json!({ "model": "rehearsal", "input": "call weather {\"city\": \"Oslo\"}", "tools": tools }))
        .await;
    assert_eq!(item(&asked, "function_call")["name"], "weather");
    asked
}

#[tokio::test]
async fn a_task_goes_on_in_another_installation() {
    let (here, there) = (Server::start("").await, Server::start("").await);
    let response = asked(&here).await;
    let was = newest(&here).await;
    let bundle = export(&here, &was, "plain=true").await;

    let imported = import(&there, &bundle, &[]).await;
    assert_eq!(imported.status, 200, "{}", imported.json);
    let told = imported.json;
    let is = told["id"].as_str().unwrap();
    assert_ne!(is, was);
    assert_eq!(
        (&told["imported_from"], &told["state"]),
        (&json!(was), &json!("waiting for its client"))
    );
    let ids = &told["imported"]["ids"];
    let call = item(&response, "function_call")["call_id"].as_str().unwrap();
    assert_eq!(told["imported"]["open_calls"], json!([ids[call]]));
    let left = told["imported"]["origin"]["left_behind"].to_string();
    assert!(left.contains("cached") && left.contains("streams"), "{left}");

    let verdict = verified(&there, is).await;
    assert_eq!(verdict["origins"][0]["session"], json!(was));
    let origin = verified(&here, &was).await;
    assert_eq!(
        verdict["origins"][0]["head"]["hash"], origin["head"]["hash"],
        "the chain is the same"
    );

    // An old name is translated; one that is none of it is not.
    let old = response["id"].as_str().unwrap();
    let path = format!("/everstate/v1/sessions/{is}/origin");
    let translated = there.get(&format!("{path}?name={old}")).await.json;
    assert_eq!(translated["ids"][old], ids[old]);
    assert_eq!(there.get(&format!("{path}?name=resp_nonsense")).await.status, 404);
    let native = here.get(&format!("/everstate/v1/sessions/{was}/origin")).await;
    assert_eq!(native.status, 404);

    let answer =
        json!([{ "type": "function_call_output", "call_id": ids[call], "output": "rain" }]);
    let done = there
        .create(json!({ "model": "rehearsal", "previous_response_id": ids[old], "input": answer }))
        .await;
    assert!(text_of(&done).contains("rain"), "{done}");
    verified(&there, is).await;
}

#[tokio::test]
async fn what_is_cut_or_changed_anywhere_is_refused_and_nothing_stays() {
    let (here, there) = (Server::start("").await, Server::start("").await);
    asked(&here).await;
    let was = newest(&here).await;
    let bundle = export(&here, &was, "plain=true").await;
    for n in 0..24 {
        let cut = import(&there, &bundle[..bundle.len() * n / 24], &[]).await;
        assert_eq!(
            (cut.status, &cut.json["error"]["code"]),
            (400, &json!("bundle_damaged")),
            "{n}: {}",
            cut.json
        );
        let mut changed = bundle.clone();
        let at = 20 + (bundle.len() - 21) * n / 24;
        changed[at] ^= 4;
        let changed = import(&there, &changed, &[]).await;
        assert_eq!(changed.status, 400, "{at}: {}", changed.json);
    }
    // Whoever puts a changed text into a case of its own is found out by the chain.
    let text = inside(&bundle, None);
    let oslo = text.windows(4).position(|it| it == b"Oslo").unwrap();
    let mut other = text.clone();
    other[oslo..oslo + 4].copy_from_slice(b"Rome");
    let other = import(&there, &in_case(&other, None), &[]).await;
    assert!(
        other.json["error"]["message"]
            .as_str()
            .unwrap()
            .contains("something else than was written"),
        "{}",
        other.json
    );
    let twice = import(&there, &in_case(&[&text[..], &text[..]].concat(), None), &[]).await;
    assert_eq!(twice.status, 400);

    let newer = [b"everstate bundle 2\n", &bundle[19..]].concat();
    let newer = import(&there, &newer, &[]).await;
    assert_eq!(newer.json["error"]["code"], "bundle_newer");
    let none = import(&there, b"{\"hello\": 1}", &[]).await;
    assert_eq!(none.json["error"]["code"], "bundle_damaged");

    assert_eq!(there.get("/everstate/v1/sessions").await.json["items"], json!([]));
    let blobs = there.dir().join("state.blobs");
    let left: Vec<_> = walk(&blobs);
    assert!(left.is_empty(), "{left:?}");
    let whole = import(&there, &bundle, &[]).await;
    assert_eq!(whole.status, 200, "{}", whole.json);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flat_map(|it| {
            let path = it.unwrap().path();
            if path.is_dir() { walk(&path) } else { vec![path] }
        })
        .collect()
}

#[tokio::test]
async fn a_sealed_bundle_is_read_by_its_recipient_alone() {
    let (here, there) = (Server::start("").await, Server::start("").await);
    asked(&here).await;
    let was = newest(&here).await;
    let identity = Identity::draw();
    let to = identity.recipient().to_string();
    let bundle = export(&here, &was, &format!("to={to}")).await;
    assert!(!has(&bundle, "Oslo") && !has(&bundle, &was));
    let sealed = import(&there, &bundle, &[]).await;
    assert_eq!(sealed.json["error"]["code"], "bundle_sealed");
    assert!(sealed.json["error"]["message"].as_str().unwrap().contains(&to));

    // One that is sealed to the installation itself, it opens.
    let ours = there.get("/everstate/v1/recipient").await.json;
    let direct = export(&here, &was, &format!("to={}", ours["recipient"].as_str().unwrap())).await;
    assert_eq!(import(&there, &direct, &[]).await.status, 200);
    assert_eq!(import(&here, &direct, &[]).await.json["error"]["code"], "bundle_sealed");

    let opened = in_case(&inside(&bundle, Some(&identity)), None);
    assert_eq!(import(&there, &opened, &[]).await.status, 200);

    for (how, param) in [("", "to"), ("to=evr_x", "to"), ("plain=true&to=evr_x", "to")] {
        let path = format!("/everstate/v1/sessions/{was}/export?{how}");
        let refused = here.get(&path).await;
        assert_eq!((refused.status, &refused.json["error"]["param"]), (400, &json!(param)));
    }
}

#[tokio::test]
async fn a_bundle_is_taken_twice_or_once_by_key() {
    let (here, there) = (Server::start("").await, Server::start("").await);
    asked(&here).await;
    let was = newest(&here).await;
    let bundle = export(&here, &was, "plain=true").await;
    let ids: Vec<Value> = [
        import(&there, &bundle, &[]).await,
        import(&there, &bundle, &[]).await,
        import(&there, &bundle, &[("idempotency-key", "k")]).await,
        import(&there, &bundle, &[("idempotency-key", "k")]).await,
    ]
    .map(|it| it.json["id"].clone())
    .into();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[2] == ids[3], "{ids:?}");
    let other = export(&here, &was, "plain=true").await;
    let other = import(&there, &other, &[("idempotency-key", "k")]).await;
    assert_eq!(other.status, 422, "another bundle: {}", other.json);

    let head = verified(&here, &was).await["head"]["hash"].as_str().unwrap().to_owned();
    let path = |head: &str| format!("{IMPORT}?head={head}");
    let right = there.ask(Method::POST, &path(&head)).body(bundle.clone());
    assert_eq!(right.send().await.unwrap().status(), 200);
    let wrong = there.ask(Method::POST, &path(&"0".repeat(64))).body(bundle);
    assert_eq!(wrong.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn what_was_erased_does_not_travel_and_a_traveller_may_go_on() {
    let (here, there, further) =
        (Server::start("").await, Server::start("").await, Server::start("").await);
    let first = here.create(json!({ "model": "rehearsal", "input": "say apple" })).await;
    let second =
        json!({ "model": "rehearsal", "input": "say banana", "previous_response_id": first["id"] });
    let second = here.create(second).await;
    let third = json!({ "model": "rehearsal", "input": "say cherry", "previous_response_id": second["id"] });
    let last = here.create(third).await;
    let was = newest(&here).await;
    let bundle = export(&here, &was, "plain=true").await;
    assert!(has(&bundle, "apple") && has(&bundle, "cherry"));

    let told = import(&there, &bundle, &[]).await.json;
    let is = told["id"].as_str().unwrap().to_owned();
    // A session that was carried can be carried on, and its first log goes with it.
    let onward = export(&there, &is, "plain=true").await;
    let third = import(&further, &onward, &[]).await.json;
    let third = verified(&further, third["id"].as_str().unwrap()).await;
    let origins: Vec<&Value> =
        third["origins"].as_array().unwrap().iter().map(|it| &it["session"]).collect();
    assert_eq!(origins, [&json!(was), &json!(is)]);

    let id = last["id"].as_str().unwrap();
    assert_eq!(here.delete(&format!("/v1/responses/{id}")).await.status, 200);
    let bundle = export(&here, &was, "plain=true").await;
    assert!(has(&bundle, "apple") && !has(&bundle, "cherry"));
    let told = import(&there, &bundle, &[]).await.json;
    let verdict = verified(&there, told["id"].as_str().unwrap()).await;
    assert!(verdict["origins"][0]["erased"].as_u64().unwrap() > 0, "{verdict}");
    assert_eq!(verdict["origins"][0]["erased"], told["imported"]["erased"]);
}
