//! Keys over a registry in memory and a clock that stands still; and the page of who may do what.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use everstate_store::open;
use expect_test::expect_file;

use super::book::NewKey;
use super::routes::routes;
use super::scope::{Asks, ROLES, role};
use super::*;

#[derive(Debug, Default)]
struct Still(AtomicU64);

impl Still {
    fn go_on(&self, ms: Millis) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Millis {
        // Ahead of the store's own clock, which judges what has expired.
        4_000_000_000_000 + self.monotonic()
    }

    async fn sleep_until(&self, _at: Millis) {}

    fn monotonic(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }

    async fn pause(&self, _ms: Millis) {}
}

struct World {
    clock: Arc<Still>,
    registry: Arc<dyn Registry>,
}

impl World {
    async fn new() -> World {
        let store = open::open("memory:", open::Settings::default()).await.unwrap();
        World { clock: Arc::default(), registry: store.registry }
    }

    async fn node(&self) -> (Keys, Option<String>) {
        Keys::open(self.registry.clone(), self.clock.clone(), None).await.unwrap()
    }

    /// As the first release wrote it.
    async fn old(&self, text: &str, admin: bool) -> String {
        let id = hex(&hash(text));
        let body = format!(
            r#"{{"project":"default","name":"old","admin":{admin},"created_at":1600000000000}}"#
        );
        let put = Put {
            project: INSTALLATION.to_owned(),
            kind: "key".to_owned(),
            id: id.clone(),
            expect: None,
            body: body.into(),
            now: 1,
            expires_at: None,
        };
        self.registry.put(put).await.unwrap();
        id
    }
}

fn new(name: &str, role_name: &str) -> NewKey {
    NewKey {
        project: "default".to_owned(),
        name: name.to_owned(),
        role: Some(role_name.to_owned()),
        scopes: (role(role_name).unwrap().scopes)(),
        expires_at: None,
        limits: None,
    }
}

async fn asked(keys: &Keys, text: &str) -> String {
    match keys.admit(Some(&format!("Bearer {text}"))).await {
        Ok(who) => format!("{} of {}", who.name, who.project),
        Err(err) => format!("{}: {}", err.status(), err.message()),
    }
}

#[tokio::test]
async fn what_is_revoked_is_refused_at_other_nodes_when_they_look_again() {
    let world = World::new().await;
    let ((here, _), (there, first)) = (world.node().await, world.node().await);
    assert_eq!(first, None, "the first node has made the admin key");
    let made = here.create(new("ci", "member")).await.unwrap();
    assert_eq!(asked(&there, &made.text).await, "ci of default");
    assert!(here.revoke(&made.id, None).await.unwrap());
    let hint = &made.text[made.text.len() - 4..];
    assert_eq!(asked(&here, &made.text).await, format!("401: the API key ...{hint} was revoked"));
    world.clock.go_on(TRUST_MS - 1);
    assert_eq!(asked(&there, &made.text).await, "ci of default");
    world.clock.go_on(1);
    assert_eq!(asked(&there, &made.text).await, format!("401: the API key ...{hint} was revoked"));
}

#[tokio::test]
async fn a_key_ends_to_the_millisecond_also_where_it_is_trusted() {
    let world = World::new().await;
    let (keys, _) = world.node().await;
    let ends = world.clock.now() + 500;
    let made = keys.create(NewKey { expires_at: Some(ends), ..new("ci", "member") }).await.unwrap();
    assert_eq!(asked(&keys, &made.text).await, "ci of default");
    world.clock.go_on(499);
    assert_eq!(asked(&keys, &made.text).await, "ci of default");
    world.clock.go_on(1);
    assert!(asked(&keys, &made.text).await.ends_with("has expired"));
    assert!(keys.rotate(&made.id, None, 0).await.unwrap().is_none(), "what has ended stays so");
}

#[tokio::test]
async fn a_key_of_the_first_release_does_what_it_did() {
    let world = World::new().await;
    let (member, ruler) = (world.old("es_member_of_old", false).await, "es_ruler_of_old");
    world.old(ruler, true).await;
    let (keys, made) = world.node().await;
    assert_eq!(made, None, "there is an admin");
    let who = keys.admit(Some("Bearer es_member_of_old")).await.unwrap();
    assert_eq!((&*who.key, who.admin), (&member[..16], false));
    assert_eq!(who.scopes, (role("member").unwrap().scopes)());
    assert!(keys.admit(Some(&format!("Bearer {ruler}"))).await.unwrap().admin);
    // It goes by the same name when it has another text.
    let turned = keys.rotate(&member, None, 1_000).await.unwrap().unwrap();
    assert_eq!(turned.id, member);
    for text in ["es_member_of_old", &turned.text] {
        assert_eq!(asked(&keys, text).await, "old of default");
    }
    assert_eq!(keys.list(None).await.unwrap().len(), 2);
    world.clock.go_on(1_000);
    assert!(asked(&keys, "es_member_of_old").await.ends_with("was replaced by another text"));
    assert_eq!(asked(&keys, &turned.text).await, "old of default");
    assert!(keys.revoke(&member, Some("default")).await.unwrap());
    for text in ["es_member_of_old", &turned.text] {
        assert!(asked(&keys, text).await.starts_with("401"));
    }
    // No release reads it any more.
    assert_eq!(world.registry.get(INSTALLATION, "key", &member).await.unwrap(), None);
}

#[tokio::test]
async fn keys_of_other_projects_are_not_there() {
    let world = World::new().await;
    let (keys, _) = world.node().await;
    let made = keys.create(new("ci", "member")).await.unwrap();
    assert!(!keys.revoke(&made.id, Some("other")).await.unwrap());
    assert!(keys.rotate(&made.id, Some("other"), 0).await.unwrap().is_none());
    assert_eq!(keys.list(Some("other")).await.unwrap().len(), 0);
    assert_eq!(asked(&keys, &made.text).await, "ci of default");
}

#[test]
fn scopes_are_read_and_told() {
    let read = |words: &[&'static str]| Scopes::read(words.iter().copied()).map(Scopes::words);
    assert_eq!(read(&["sessions:*"]), Ok(vec!["sessions:read", "sessions:write"]));
    assert_eq!(read(&["vaults:read", "keys:write"]), Ok(vec!["vaults:read", "keys:write"]));
    for bad in ["sessions", "*", "sessions:", "sessions:delete", ""] {
        assert_eq!(read(&[bad]), Err(bad));
    }
    for it in ROLES.iter().filter(|it| it.name != "admin") {
        assert!(!(it.scopes)().has(Scope::Admin), "{}", it.name);
    }
    assert!(Scope::ALL.iter().all(|it| Scopes::all().has(*it)));
    assert!(Scopes::of([Scope::Admin]).lacks(Scopes::all()).is_none(), "admin is all of it");
}

#[test]
fn reference_of_who_may_do_what() {
    let mut page = "# Who may do what\n\n\
        <!-- Written by a test. UPDATE_EXPECT=1 cargo nextest run -p everstate-server reference -->\n\n\
        A key has scopes, and each operation asks for one of them. [keys.md](../keys.md) says how keys are made.\n\n\
        ## Scopes\n\n| scope | lets a key |\n| --- | --- |\n"
        .to_owned();
    for it in Scope::ALL {
        page.push_str(&format!("| `{}` | {} |\n", it.word(), it.about()));
    }
    page.push_str("\n`sessions:*` is all scopes that begin so.\n\n## Roles\n\n| role | is | scopes |\n| --- | --- | --- |\n");
    for it in ROLES {
        let words: Vec<String> = (it.scopes)().words().iter().map(|it| format!("`{it}`")).collect();
        page.push_str(&format!("| `{}` | {} | {} |\n", it.name, it.about, words.join(", ")));
    }
    page.push_str("\n## Operations\n\nWhat is not listed does not exist: 404.\n\n| operation | asks for |\n| --- | --- |\n");
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for it in &routes() {
        let asks = match it.asks() {
            Some(Asks::Nothing) => "nothing".to_owned(),
            Some(Asks::Seal) => "the seal of another node".to_owned(),
            Some(Asks::Scope(scope)) => format!("`{}`", scope.word()),
            None => panic!("nobody said what {} {} asks for", it.method, it.path),
        };
        page.push_str(&format!("| `{} {}` | {asks} |\n", it.method, it.path));
        for path in ["/v1/responses", "/everstate/v1/sessions/{id}", "/livez", "/v1/models/{*id}"] {
            if it.path == path {
                *seen.entry(path).or_default() += 1;
            }
        }
    }
    // The list is read off a text; these are certainly there.
    let known = [
        ("/everstate/v1/sessions/{id}", 2),
        ("/livez", 1),
        ("/v1/models/{*id}", 1),
        ("/v1/responses", 1),
    ];
    assert_eq!(seen, BTreeMap::from(known));
    expect_file!["../../../../docs/reference/access.md"].assert_eq(&page);
}
