//! A row's body can be read by whoever finds it: this release, an older one, a later one.

use everstate_kernel::event::{Append, Event};
use everstate_kernel::state::Session;

#[test]
fn an_unknown_kind_is_kept_and_stops_the_session() {
    let body =
        br#"{"at":7,"events":[{"owned":{"epoch":3}},{"teleported":{"to":"mars","x":[1, 2]}}]}"#;
    let append = Append::decode(4, body).unwrap();
    assert!(matches!(&append.events[1], Event::Foreign(it) if it.kind == "teleported"));
    assert_eq!(append.encode(), body, "it is given back byte for byte");

    let session = Session::replay([&append]);
    assert!(
        session.live.parked.is_some_and(|it| it.contains("teleported")),
        "an older reader refuses"
    );
}

#[test]
fn a_body_that_is_no_row_is_an_error() {
    for body in ["", "{}", "[]", r#"{"at":1,"events":[1]}"#, r#"{"at":-1,"events":[]}"#] {
        assert!(Append::decode(1, body.as_bytes()).is_err(), "{body}");
    }
}
