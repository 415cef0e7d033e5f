use super::*;

fn said<'a>(path: &'a str, body: &'a [u8]) -> Said<'a> {
    Said { method: &Method::POST, path, body }
}

#[test]
fn what_one_of_us_says_is_heard_once() {
    let seals = Seals::new(&[7; 32]);
    let (headers, nonce) = seals.seal(said("/a", b"x"), Some(3));
    let here = Seals::new(&[7; 32]);
    assert_eq!(here.admit(said("/a", b"x"), &headers, 3), Some(nonce));
    assert_eq!(here.admit(said("/a", b"x"), &headers, 3), None, "not twice");
}

#[test]
fn what_is_altered_or_meant_for_another_is_not_heard() {
    let seals = Seals::new(&[7; 32]);
    let headers = || seals.seal(said("/a", b"x"), Some(3)).0;
    assert!(seals.admit(said("/b", b"x"), &headers(), 3).is_none(), "another path");
    assert!(seals.admit(said("/a", b"y"), &headers(), 3).is_none(), "another body");
    let other = Said { method: &Method::GET, ..said("/a", b"x") };
    assert!(seals.admit(other, &headers(), 3).is_none(), "another method");
    assert!(seals.admit(said("/a", b"x"), &headers(), 4).is_none(), "another process");
    assert!(Seals::new(&[8; 32]).admit(said("/a", b"x"), &headers(), 3).is_none(), "a stranger");
    assert!(seals.admit(said("/a", b"x"), &HeaderMap::new(), 3).is_none(), "nothing at all");
    for (name, value) in
        [(TO, "4"), (TO, ""), (SEAL, "00"), (SEAL, "zz"), (SEAL, "é"), (NONCE, "00")]
    {
        let mut headers = headers();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        assert!(seals.admit(said("/a", b"x"), &headers, 3).is_none(), "{value}");
    }
}

#[test]
fn an_answer_is_to_one_question() {
    let seals = Seals::new(&[7; 32]);
    let (name, value) = seals.seal_answer("n", b"me");
    let headers = HeaderMap::from_iter([(name, value)]);
    assert!(seals.is_answer("n", b"me", &headers));
    assert!(!seals.is_answer("m", b"me", &headers));
    assert!(!seals.is_answer("n", b"you", &headers));
}
