//! Vaults and credentials: what is understood, what rotates, and that no secret is told, neither in an object nor in a
//! complaint.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use everstate_dialects::agents::saved::Times;
use everstate_dialects::agents::vault::read::{
    read_credential_create, read_credential_update, read_vault_create, read_vault_update,
};
use everstate_dialects::agents::vault::{Credential, Vault, credential_object, vault_object};
use everstate_dialects::responses::request::Complaint;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// Stands in every secret of these tests, and must stand nowhere else.
const SECRET: &str = "hunter2";

fn told(complaint: &Complaint) -> String {
    let param = complaint.param.as_deref().unwrap_or("-");
    let text = format!("{param}: {}", complaint.message);
    assert!(!text.contains(SECRET), "{text}");
    text
}

fn object(credential: &Credential) -> Value {
    let times = Times { created_at: 1_999, updated_at: 2_000 };
    let text = credential_object("cred_1", "vault_1", times, credential).text().to_owned();
    for shown in [&text, &format!("{credential:?}")] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    serde_json::from_str(&text).unwrap()
}

fn credential(auth: &Value) -> Result<Credential, Complaint> {
    let body = json!({ "name": " mine ", "auth": auth });
    read_credential_create(body.to_string().as_bytes())
}

fn oauth(more: Value) -> Value {
    let mut auth = json!({
        "type": "mcp_oauth",
        "mcp_server_url": "https://mcp.example/sse",
        "access_token": "hunter2 access",
        "expires_at": "2026-11-23T07:10:00Z",
        "refresh": {
            "client_id": "me",
            "refresh_token": "hunter2 refresh",
            "token_endpoint": "https://auth.example/token",
            "token_endpoint_auth": { "type": "client_secret_basic", "client_secret": "hunter2 client" },
            "scope": "read write",
        },
    });
    for (name, value) in more.as_object().unwrap() {
        auth[name] = value.clone();
    }
    auth
}

fn bearer() -> Value {
    json!({ "type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hunter2" })
}

fn variable(more: Value) -> Value {
    let mut auth = json!({
        "type": "environment_variable",
        "secret_name": "SERVICE_API_KEY",
        "secret_value": "hunter2",
        "networking": { "type": "limited", "allowed_hosts": ["API.example", "10.0.0.1"] },
    });
    for (name, value) in more.as_object().unwrap() {
        auth[name] = value.clone();
    }
    auth
}

#[test]
fn a_credential_is_told_without_its_secrets() {
    let told = object(&credential(&oauth(json!({}))).unwrap());
    expect![[r#"{"id":"cred_1","object":"vault.credential","vault_id":"vault_1","created_at":1,"updated_at":2,"name":"mine","metadata":{},"auth":{"type":"mcp_oauth","mcp_server_url":"https://mcp.example/sse","expires_at":"2026-11-23T07:10:00Z","refresh":{"client_id":"me","token_endpoint":"https://auth.example/token","token_endpoint_auth":{"type":"client_secret_basic"},"resource":null,"scope":"read write"}}}"#]].assert_eq(&told.to_string());
    let told = object(&credential(&oauth(json!({ "refresh": null, "expires_at": null }))).unwrap());
    expect![[r#"{"type":"mcp_oauth","mcp_server_url":"https://mcp.example/sse","expires_at":null,"refresh":null}"#]].assert_eq(&told["auth"].to_string());
    let told = object(&credential(&bearer()).unwrap());
    expect![[r#"{"type":"static_bearer","mcp_server_url":"https://mcp.example"}"#]]
        .assert_eq(&told["auth"].to_string());
    let told = object(&credential(&variable(json!({}))).unwrap());
    expect![[r#"{"type":"environment_variable","secret_name":"SERVICE_API_KEY","networking":{"type":"limited","allowed_hosts":["api.example","10.0.0.1"]}}"#]].assert_eq(&told["auth"].to_string());
    let anywhere = variable(json!({ "networking": { "type": "unrestricted" } }));
    let told = object(&credential(&anywhere).unwrap());
    expect![[r#"{"type":"unrestricted"}"#]].assert_eq(&told["auth"]["networking"].to_string());
}

#[test]
fn what_is_kept_is_read_again() {
    for auth in [oauth(json!({})), oauth(json!({ "refresh": null })), bearer(), variable(json!({}))]
    {
        let made = credential(&auth).unwrap();
        let kept = serde_json::to_string(&made).unwrap();
        assert!(kept.contains(SECRET), "it has to be kept");
        assert_eq!(serde_json::from_str::<Credential>(&kept).unwrap(), made);
    }
}

#[test]
fn a_credential_is_complained_about_where_it_is_wrong() {
    let refused = |auth: &Value| told(&credential(auth).unwrap_err());
    for (auth, at) in [
        (json!("hunter2"), "auth"),
        (json!({ "type": "hunter2" }), "auth.type"),
        (json!({ "token": "hunter2" }), "auth.type"),
        (json!({ "type": "static_bearer", "token": "hunter2" }), "auth.mcp_server_url"),
        (oauth(json!({ "access_token": "" })), "auth.access_token"),
        (oauth(json!({ "access_token": null })), "auth.access_token"),
        (oauth(json!({ "access_token": ["hunter2"] })), "auth.access_token"),
        (oauth(json!({ "access_token": "hunter2\r\nx: y" })), "auth.access_token"),
        (oauth(json!({ "access_token": "hunter2".repeat(10_000) })), "auth.access_token"),
        (oauth(json!({ "token": "x" })), "auth.token"),
        (oauth(json!({ "refresh": "hunter2" })), "auth.refresh"),
        (oauth(json!({ "refresh": {} })), "auth.refresh.token_endpoint_auth"),
        (oauth(json!({ "expires_at": "hunter2" })), "auth.expires_at"),
        (oauth(json!({ "expires_at": 1_764_000_000 })), "auth.expires_at"),
        (variable(json!({ "secret_value": "hunter2\0" })), "auth.secret_value"),
        (variable(json!({ "secret_value": "hunter2\n" })), "auth.secret_value"),
        (variable(json!({ "secret_value": "" })), "auth.secret_value"),
        (variable(json!({ "networking": null })), "auth.networking"),
        (variable(json!({ "networking": { "type": "limited" } })), "auth.networking.allowed_hosts"),
        (
            variable(json!({ "networking": { "type": "limited", "allowed_hosts": [] } })),
            "auth.networking.allowed_hosts",
        ),
    ] {
        let said = refused(&auth);
        assert!(said.starts_with(&format!("{at}: ")), "{auth}: {said}");
    }
    for method in [
        json!({ "type": "none", "client_secret": "hunter2" }),
        json!({ "type": "client_secret_post" }),
        json!({ "type": "private_key_jwt", "client_secret": "hunter2" }),
    ] {
        let mut auth = oauth(json!({}));
        auth["refresh"]["token_endpoint_auth"] = method;
        let said = refused(&auth);
        assert!(said.starts_with("auth.refresh.token_endpoint_auth."), "{said}");
    }
}

#[test]
fn a_secret_goes_to_named_places_only() {
    let accepts = |auth: &Value| credential(auth).is_ok();
    for (url, good) in [
        ("https://mcp.example", true),
        ("HTTPS://mcp.example:8443/a/b?c=d", true),
        ("https://[2001:db8::1]:443/", true),
        ("https://10.0.0.1/", true),
        ("http://mcp.example", false),
        ("https://", false),
        ("https:///path", false),
        ("https://me:hunter2@mcp.example", false),
        ("https://mcp.example/#part", false),
        ("https://mcp.example:0/", false),
        ("https://mcp.example:99999/", false),
        ("https://mcp.example:/", false),
        ("https://mcp .example", false),
        ("https://1.2.3", false),
        ("ftp://mcp.example", false),
        ("mcp.example", false),
        ("", false),
    ] {
        assert_eq!(accepts(&oauth(json!({ "mcp_server_url": url }))), good, "{url}");
    }
    for (host, good) in [
        ("example", true),
        ("Api.Example", true),
        ("a-b.example", true),
        ("192.168.0.1", true),
        ("*.example", false),
        ("https://example", false),
        ("example/path", false),
        ("example:443", false),
        ("::1", false),
        ("[::1]", false),
        ("256.0.0.1", false),
        ("1.2.3", false),
        ("-a.example", false),
        ("example.", false),
        ("", false),
        ("bücher.example", false),
    ] {
        let networking = json!({ "type": "limited", "allowed_hosts": [host] });
        assert_eq!(accepts(&variable(json!({ "networking": networking }))), good, "{host}");
    }
    for (n, good) in [(16, true), (17, false)] {
        let hosts: Vec<String> = (0..n).map(|it| format!("h{it}.example")).collect();
        let networking = json!({ "type": "limited", "allowed_hosts": hosts });
        assert_eq!(accepts(&variable(json!({ "networking": networking }))), good, "{n} hosts");
    }
    let twice = json!({ "type": "limited", "allowed_hosts": ["a.example", "A.example"] });
    assert!(!accepts(&variable(json!({ "networking": twice }))));
    for (name, good) in [
        ("SERVICE_API_KEY", true),
        ("_x9", true),
        ("9X", false),
        ("", false),
        ("A-B", false),
        ("CODEX_HOME", false),
        ("https_proxy", false),
        ("SSL_CERT_FILE", false),
        ("EVERSTATE_KEY", false),
    ] {
        assert_eq!(accepts(&variable(json!({ "secret_name": name }))), good, "{name}");
    }
    for (time, good) in [
        ("2026-11-23T07:10:00Z", true),
        ("2024-02-29t23:59:60.123+05:30", true),
        ("2023-02-29T00:00:00Z", false),
        ("2026-13-01T00:00:00Z", false),
        ("2026-11-23T07:10:00", false),
        ("2026-11-23T07:10:00.Z", false),
        ("2026-11-23T24:00:00Z", false),
        ("2026-11-23", false),
        ("+026-11-23T07:10:00Z", false),
        ("2026-11-23T07:10:00+5:30", false),
    ] {
        assert_eq!(accepts(&oauth(json!({ "expires_at": time }))), good, "{time}");
    }
}

/// What becomes of a credential by an update: its object's `auth`, and which secrets it has then.
fn rotated(auth: &Value, update: Value, expect: Expect) {
    let patch = read_credential_update(json!({ "auth": update }).to_string().as_bytes());
    let made = credential(auth).unwrap();
    let said = match patch.and_then(|it| made.merge(it)) {
        Err(complaint) => told(&complaint),
        Ok(after) => {
            let kept = serde_json::to_string(&after.auth).unwrap();
            let secrets: Vec<&str> = kept.split('"').filter(|it| it.contains("hunter2")).collect();
            let told = object(&after)["auth"].clone();
            let (until, scope) = (&told["expires_at"], &told["refresh"]["scope"]);
            format!("{}; expires {until}, scope {scope}", secrets.join(", "))
        }
    };
    expect.assert_eq(&said);
}

#[test]
fn secrets_are_rotated_in_place() {
    let all = oauth(json!({}));
    rotated(
        &all,
        json!({ "type": "mcp_oauth" }),
        expect![[
            r#"hunter2 access, hunter2 refresh, hunter2 client; expires "2026-11-23T07:10:00Z", scope "read write""#
        ]],
    );
    // A new token lives as long as nobody knows, unless it is said.
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "access_token": "hunter2 new" }),
        expect![[
            r#"hunter2 new, hunter2 refresh, hunter2 client; expires null, scope "read write""#
        ]],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "access_token": "hunter2 new", "expires_at": "2027-01-01T00:00:00Z" }),
        expect![[
            r#"hunter2 new, hunter2 refresh, hunter2 client; expires "2027-01-01T00:00:00Z", scope "read write""#
        ]],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "access_token": null }),
        expect![[
            r#"hunter2 access, hunter2 refresh, hunter2 client; expires "2026-11-23T07:10:00Z", scope "read write""#
        ]],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "expires_at": null }),
        expect![[
            r#"hunter2 access, hunter2 refresh, hunter2 client; expires null, scope "read write""#
        ]],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "refresh": { "refresh_token": "hunter2 r2", "scope": null } }),
        expect![[
            r#"hunter2 access, hunter2 r2, hunter2 client; expires "2026-11-23T07:10:00Z", scope null"#
        ]],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "refresh": { "scope": "all", "token_endpoint_auth": { "type": "client_secret_basic", "client_secret": "hunter2 c2" } } }),
        expect![[
            r#"hunter2 access, hunter2 refresh, hunter2 c2; expires "2026-11-23T07:10:00Z", scope "all""#
        ]],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "refresh": { "token_endpoint_auth": { "type": "client_secret_basic", "client_secret": null } } }),
        expect![[
            r#"hunter2 access, hunter2 refresh, hunter2 client; expires "2026-11-23T07:10:00Z", scope "read write""#
        ]],
    );
    rotated(
        &bearer(),
        json!({ "type": "static_bearer", "token": "hunter2 new" }),
        expect!["hunter2 new; expires null, scope null"],
    );
    rotated(
        &variable(json!({})),
        json!({ "type": "environment_variable", "secret_value": "hunter2 new" }),
        expect!["hunter2 new; expires null, scope null"],
    );
}

#[test]
fn a_rotation_changes_nothing_but_secrets() {
    let all = oauth(json!({}));
    rotated(
        &all,
        json!({ "type": "static_bearer", "token": "hunter2" }),
        expect![
            "auth.type: Invalid 'auth.type': the credential's is 'mcp_oauth', and stays so. Make another credential for another."
        ],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "mcp_server_url": "https://other.example" }),
        expect!["auth.mcp_server_url: Unknown parameter: 'auth.mcp_server_url'."],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "refresh": { "token_endpoint_auth": { "type": "client_secret_post", "client_secret": "hunter2" } } }),
        expect![
            "auth.refresh.token_endpoint_auth.type: Invalid 'auth.refresh.token_endpoint_auth.type': the credential's is 'client_secret_basic', and stays so. Make another credential for another."
        ],
    );
    rotated(
        &all,
        json!({ "type": "mcp_oauth", "refresh": { "token_endpoint_auth": { "type": "none" } } }),
        expect![
            "auth.refresh.token_endpoint_auth.type: Invalid 'auth.refresh.token_endpoint_auth.type': supported values are 'client_secret_basic', 'client_secret_post'."
        ],
    );
    rotated(
        &oauth(json!({ "refresh": null })),
        json!({ "type": "mcp_oauth", "refresh": { "refresh_token": "hunter2" } }),
        expect![
            "auth.refresh: Invalid 'auth.refresh': the credential has no refresh configuration."
        ],
    );
    rotated(
        &bearer(),
        json!({ "type": "static_bearer" }),
        expect!["auth.token: Missing required parameter: 'auth.token'."],
    );
    rotated(
        &variable(json!({})),
        json!({ "type": "environment_variable", "secret_value": "hunter2", "secret_name": "OTHER" }),
        expect!["auth.secret_name: Unknown parameter: 'auth.secret_name'."],
    );
}

#[test]
fn names_are_trimmed_and_bounded() {
    let made = |body: Value| read_vault_create(body.to_string().as_bytes());
    assert_eq!(made(json!({})).unwrap(), Vault::default());
    assert_eq!(made(json!({ "name": null, "metadata": null })).unwrap(), Vault::default());
    assert_eq!(made(json!({ "name": "\t team \n" })).unwrap().name.as_deref(), Some("team"));
    for (name, good) in [("é".repeat(128), true), ("é".repeat(129), false), (" ".to_owned(), false)]
    {
        assert_eq!(made(json!({ "name": name })).is_ok(), good, "{name}");
        let body = json!({ "name": name, "auth": bearer() });
        let credential = read_credential_create(body.to_string().as_bytes());
        assert_eq!(credential.is_ok(), good, "{name}");
    }
    let nameless = json!({ "auth": bearer() }).to_string();
    let said = told(&read_credential_create(nameless.as_bytes()).unwrap_err());
    assert!(said.starts_with("name: "), "{said}");
}

#[test]
fn a_vault_is_changed_field_by_field() {
    let mut vault =
        Vault { name: Some("a".to_owned()), metadata: [("k".to_owned(), "v".to_owned())].into() };
    let mut after = |body: Value| {
        vault.merge(read_vault_update(body.to_string().as_bytes()).unwrap());
        let object = vault_object("vault_1", 1_000, &vault).text().to_owned();
        let object: Value = serde_json::from_str(&object).unwrap();
        format!("{} {}", object["name"], object["metadata"])
    };
    assert_eq!(after(json!({})), r#""a" {"k":"v"}"#);
    assert_eq!(after(json!({ "name": "b" })), r#""b" {"k":"v"}"#);
    assert_eq!(after(json!({ "metadata": { "x": "y" } })), r#""b" {"x":"y"}"#);
    assert_eq!(after(json!({ "name": null, "metadata": {} })), "null {}");
    for body in [json!({ "name": " " }), json!({ "metadata": { "k": 1 } }), json!({ "other": 1 })] {
        assert!(read_vault_update(body.to_string().as_bytes()).is_err(), "{body}");
    }
}
