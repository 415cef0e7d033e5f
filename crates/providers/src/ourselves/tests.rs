//! Spellings of our own address, and of others.

use super::is_ourselves;

fn check(base_url: &str, listen: &str, expected: bool) {
    let listen = listen.parse().expect("a socket address");
    assert_eq!(is_ourselves(base_url, listen), expected, "{base_url} at {listen}");
}

#[test]
fn our_own_address_is_known_in_all_its_spellings() {
    let here = "127.0.0.1:7070";
    check("http://127.0.0.1:7070/v1", here, true);
    check("http://localhost:7070/v1", here, true);
    check("http://LOCALHOST.:7070", here, true);
    check("http://api.localhost:7070/v1", here, true);
    check("http://[::1]:7070/v1", here, true);
    check("http://[::ffff:127.0.0.1]:7070/v1", here, true);
    check("http://0.0.0.0:7070/v1", here, true);
    check("http://2130706433:7070/v1", here, true);
    check("http://127.0.0.1:7070/v1", "[::1]:7070", true);
    check("http://127.0.0.1:7070/v1", "0.0.0.0:7070", true);
    check("http://127.0.0.1/v1", "[::]:80", true);
    check("https://localhost/v1", "127.0.0.1:443", true);
}

#[test]
fn other_addresses_are_others() {
    let here = "127.0.0.1:7070";
    check("http://127.0.0.1:7071/v1", here, false);
    check("http://127.0.0.1/v1", here, false);
    check("https://192.0.2.7:7070/v1", here, false);
    check("https://192.0.2.7:7070/v1", "0.0.0.0:7070", false);
    check("http://localhost:7070/v1", "192.0.2.7:7070", false);
    check("not a url", here, false);
}
