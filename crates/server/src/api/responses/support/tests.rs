//! What the door does with a request's fields is what its reference says. The page is committed, and compared here;
//! `UPDATE_EXPECT=1 cargo nextest run -p everstate-server reference` writes it anew.

use everstate_dialects::responses::request::read_create;
use expect_test::expect_file;
use serde_json::{Value, json};

use super::*;
use crate::api::later::LATER;

/// A value of the right kind.
fn example(name: &str) -> Value {
    match name {
        "stream" | "background" | "store" | "parallel_tool_calls" => json!(true),
        "stream_options" => json!({ "include_obfuscation": false }),
        "metadata" => json!({ "order": "1182" }),
        "include" => json!(INCLUDE),
        "tools" => json!([{ "type": "function", "name": "refund" }]),
        "max_tool_calls" => json!(3),
        "max_output_tokens" => json!(16),
        "temperature" | "top_p" => json!(0.5),
        "reasoning" => json!({ "effort": "low" }),
        "text" => json!({ "format": { "type": "text" } }),
        "tool_choice" => json!("auto"),
        _ => json!("a text"),
    }
}

#[test]
fn each_field_has_the_fate_that_is_told() {
    for field in FIELDS {
        let mut body = json!({ "model": "rehearsal", "input": "hello" });
        body[field.name] = example(field.name);
        let request = read_create(body.to_string().as_bytes()).expect("a request that can be read");
        let known = !request.extra.contains_key(field.name);
        let fate = match (supported(&request), known) {
            (Err(_), _) => Refused,
            (Ok(()), true) => Works,
            (Ok(()), false) => Passed,
        };
        let told = if field.fate == Ignored { Works } else { field.fate };
        assert!(fate == told, "{}", field.name);
        // What we act on is checked, so that a slip of the pen is not silently ignored.
        if fate == Works {
            body[field.name] = json!([[7]]);
            assert!(read_create(body.to_string().as_bytes()).is_err(), "{}", field.name);
        }
    }
}

/// How the operations are called that are served.
const SERVED: &[(&str, &str)] = &[
    ("POST /v1/responses", "as an object, as a stream, or in the background"),
    (
        "GET /v1/responses/{id}",
        "`stream=true` and `starting_after`, if made with `background` and `stream`; a stream that is taken up again is the same, byte for byte",
    ),
    ("GET /v1/responses/{id}/input_items", "`limit`, `order` and `after`"),
    ("POST /v1/responses/{id}/cancel", "if made with `background`"),
    ("DELETE /v1/responses/{id}", "erases what no other response was built on"),
    ("GET /v1/models", "the models that can be asked for here"),
    ("GET /v1/models/{model}", "one of them"),
];

#[test]
fn reference_of_the_responses_door() {
    let mut page = "# The door `/v1/responses`\n\n\
        <!-- Written by a test. UPDATE_EXPECT=1 cargo nextest run -p everstate-server reference -->\n\n\
        What the official clients may ask for, and what becomes of it. What is refused is refused whole, with the code\n\
        `unsupported` or `not_available_yet` ([errors.md](errors.md)), so that nothing is silently left out. Every answer about a\n\
        stored response names its session in the header `x-everstate-session`.\n\n\
        ## Operations\n\n| operation | what becomes of it |\n| --- | --- |\n"
        .to_owned();
    for (operation, about) in SERVED {
        page.push_str(&format!("| `{operation}` | works: {about} |\n"));
    }
    for path in LATER.iter().filter(|it| !it.contains("{*")) {
        page.push_str(&format!("| `{path}` | refused: not served by this release |\n"));
    }
    let whole = |path: &str| LATER.contains(&path.trim_end_matches("/{*rest}"));
    for path in LATER.iter().filter(|it| it.contains("{*") && !whole(it)) {
        let path = path.replace("{*rest}", "...");
        page.push_str(&format!("| `{path}` | refused: not served by this release |\n"));
    }
    page.push_str("\nWhat lies below an address that is refused is refused too.\n\n## Fields of `POST /v1/responses`\n\n\
        Passed on: it is kept, repeated in the response, and given to a provider that speaks this API; where the step goes to one\n\
        that does not, `everstate explain` says that it was left behind. So it is with fields that are not listed.\n\n\
        | field | what becomes of it | |\n| --- | --- | --- |\n");
    for Field { name, fate, about } in FIELDS {
        let fate = match fate {
            Works => "works",
            Ignored => "accepted, without effect",
            Passed => "passed on",
            Refused => "refused",
        };
        page.push_str(&format!("| `{name}` | {fate} | {about} |\n"));
    }
    page.push_str("\n`include` takes");
    let values: Vec<String> = INCLUDE.iter().map(|it| format!(" `{it}`")).collect();
    page.push_str(&format!("{}.\n", values.join(",")));
    expect_file!["../../../../../../docs/reference/responses.md"].assert_eq(&page);
}
