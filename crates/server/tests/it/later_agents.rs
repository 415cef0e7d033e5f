//! What the Agents API has and this release does not: refused by name, and so that no client tries again.

use reqwest::Method;

use crate::server::{Server, read};

#[tokio::test]
async fn what_is_not_served_says_so_and_is_not_tried_again() {
    let mut server = Server::start("").await;
    let paths = [
        (Method::POST, "/v1/agents/environments"),
        (Method::GET, "/v1/agents/environments/env_1/files?path=x"),
        (Method::DELETE, "/v1/agents/environments/templates/t_1"),
        (Method::POST, "/v1/agents/automations/a_1/pause"),
        (Method::GET, "/v1/agents/automations/a_1/invocations/i_1"),
        (Method::GET, "/v1/agents/sessions/ses_1/artifacts"),
        (Method::GET, "/v1/agents/sessions/ses_1/artifacts/x/content"),
    ];
    for (method, path) in paths.clone() {
        let answer = read(server.ask(method.clone(), path).send().await.unwrap()).await;
        let error = &answer.json["error"];
        assert_eq!((answer.status, &error["code"]), (501, &"not_available_yet".into()), "{path}");
        assert_eq!(answer.retry.as_deref(), Some("false"), "{path}");
        let bare = path.split('?').next().unwrap();
        assert_eq!(error["message"], format!("{method} {bare} is not available yet"));
        assert!(!error["why"][0].as_str().unwrap().is_empty(), "{path}");
    }
    // Only what the API has: the rest does not exist.
    let wrong = server.ask(Method::DELETE, "/v1/agents/environments").send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert_eq!(server.get("/v1/agents/environments/e/other").await.status, 404);
    server.with_key("es_wrong");
    for (method, path) in paths {
        let answer = server.ask(method, path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "nothing is said to strangers: {path}");
    }
}
