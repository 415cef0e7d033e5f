use super::*;
use crate::config::Origin;

#[test]
fn what_is_shown_of_an_address_holds_no_password() {
    let cases = [
        ("sqlite:./state.db", "sqlite:./state.db"),
        ("memory:", "memory:"),
        ("postgres://host/db", "postgres://host/db"),
        ("postgres://me@host/db", "postgres://me@host/db"),
        ("postgres://me:s3cret@host:5432/db", "postgres://me:***@host:5432/db"),
        ("postgres://me:s3@cr/et@host/db", "postgres://me:***@host/db"),
        ("postgres://me:s3?cr/et@host/db?a=b", "postgres://me:***@host/db?a=b"),
        ("postgres://:s3cret@host", "postgres://:***@host"),
        (
            "postgres://me@host/db?password=s3cret&sslmode=require",
            "postgres://me@host/db?password=***&sslmode=require",
        ),
        ("postgres://me@host/db?sslPassword=s3cret", "postgres://me@host/db?sslPassword=***"),
    ];
    for (url, shown) in cases {
        assert_eq!(redacted(url), shown, "{url}");
    }
}

#[test]
fn a_node_says_where_it_is_reached() {
    let node = |advertise: Option<&str>| Node {
        name: Set { value: None, origin: Origin::Default },
        advertise: Set { value: advertise.map(str::to_owned), origin: Origin::Default },
        lease_ttl_ms: Set { value: LEASE_TTL_MS, origin: Origin::Default },
        store_wait_s: Set { value: STORE_WAIT_S, origin: Origin::Default },
    };
    let listen: SocketAddr = "127.0.0.1:7070".parse().expect("an address");
    assert_eq!(node(None).address(listen).expect("good"), "http://127.0.0.1:7070");
    assert!(node(None).name(listen).ends_with("-7070"));
    let address = |text| node(Some(text)).address(listen);
    assert_eq!(address("10.0.0.7:80").expect("good"), "http://10.0.0.7");
    assert_eq!(address("https://a.example:8443/").expect("good"), "https://a.example:8443");
    for bad in ["", "ftp://a", "http://a/path", "http://me:pw@a", "a b"] {
        let error = address(bad).expect_err(bad);
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    let anywhere: SocketAddr = "0.0.0.0:7070".parse().expect("an address");
    assert!(!node(None).address(anywhere).expect("good").contains("0.0.0.0"));
}
