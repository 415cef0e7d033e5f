//! The door `/everstate/v1`. Its routes are read off its own source, so that none is left out.

use std::collections::BTreeSet;

/// What is asked for, and what comes of it.
pub(super) const OPERATIONS: &[(&str, &str)] = &[
    (
        "GET /everstate/v1/sessions",
        "the sessions of the project, the newest first; `limit` and `before`",
    ),
    ("GET /everstate/v1/sessions/{id}", "a session, its turns, what it waits for and what it cost"),
    ("DELETE /everstate/v1/sessions/{id}", "erases it"),
    (
        "GET /everstate/v1/sessions/{id}/events",
        "its log, event by event; with `follow=true` as a stream, as it grows",
    ),
    ("GET /everstate/v1/sessions/{id}/items", "its transcript"),
    (
        "POST /everstate/v1/sessions/{id}/say",
        "says something to it, with the agent of its last turn",
    ),
    ("POST /everstate/v1/sessions/{id}/fork", "a session that goes on from a place in this one"),
    ("POST /everstate/v1/sessions/{id}/cancel", "ends its turn"),
    (
        "POST /everstate/v1/sessions/{id}/unpark",
        "lets a session go on that had stopped with a reason",
    ),
    ("GET /everstate/v1/sessions/{id}/explain", "why each step was placed where it was"),
    ("GET /everstate/v1/sessions/{id}/verify", "does its chain of headers hold?"),
    ("GET /everstate/v1/sessions/{id}/export", "the session as a bundle"),
    ("GET /everstate/v1/sessions/{id}/origin", "where an imported session came from"),
    ("POST /everstate/v1/sessions/import", "a bundle as a session of this project"),
    ("GET /everstate/v1/recipient", "whom a bundle has to be sealed for to be read here"),
    ("GET /everstate/v1/approvals", "calls that wait for a person"),
    ("POST /everstate/v1/approvals", "answers one"),
    ("GET /everstate/v1/effects", "calls that may or may not have run"),
    ("POST /everstate/v1/effects/resolve", "says what became of one"),
    ("GET /everstate/v1/budgets", "what the projects may spend, and have spent"),
    ("GET /everstate/v1/budgets/{id}", "one of them"),
    ("GET /everstate/v1/nodes", "the nodes that share the store"),
    ("GET /everstate/v1/nodes/{name}", "one of them"),
    ("GET /everstate/v1/retention", "for how long what is kept, by project and agent"),
    ("GET /everstate/v1/offers", "ways to buy a model, and how they are doing"),
    ("GET /everstate/v1/tools", "the tools that the server runs"),
    ("GET /everstate/v1/config", "every setting with its origin, without secrets"),
    ("GET /everstate/v1/doctor", "is everything there that is needed?"),
    ("GET /everstate/v1/codes", "every word of an error"),
    ("GET /everstate/v1/projects", "the projects"),
    ("POST /everstate/v1/projects", "makes one"),
    ("GET /everstate/v1/keys", "the keys, without their texts"),
    ("POST /everstate/v1/keys", "makes one, and shows it once"),
    ("DELETE /everstate/v1/keys/{id}", "revokes it"),
    ("POST /everstate/v1/keys/{id}/rotate", "another text for the same key"),
    ("GET /everstate/v1/stop", "which projects are held"),
    ("POST /everstate/v1/stop", "ends what runs; with `hold`, lets nothing begin"),
    ("POST /everstate/v1/start", "lifts a hold"),
];

/// The routes that the door's source registers: `GET /everstate/v1/sessions`.
pub(super) fn routes() -> BTreeSet<String> {
    let source = include_str!("../../../src/api/everstate.rs");
    let mut routes = BTreeSet::new();
    for part in source.split(".route(").skip(1) {
        let mut quoted = part.splitn(3, '"').skip(1);
        let path = quoted.next().unwrap();
        // Up to the next route or nest; what follows the last one holds no handlers.
        let handlers = quoted.next().unwrap().split(".nest(").next().unwrap();
        let path = match path {
            whole if whole.starts_with("/everstate") => whole.to_owned(),
            "/" => "/everstate/v1/sessions".to_owned(),
            rest => format!("/everstate/v1/sessions{rest}"),
        };
        for (word, method) in [("get(", "GET"), ("post(", "POST"), ("delete(", "DELETE")] {
            if handlers.contains(&format!(" {word}")) || handlers.contains(&format!(".{word}")) {
                routes.insert(format!("{method} {path}"));
            }
        }
    }
    routes
}
