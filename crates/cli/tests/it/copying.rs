//! A store that moves while it is used, as an operator types it.

use crate::house::{CONFIG, House};

#[test]
fn a_store_moves_and_its_server_is_stopped_for_the_last_round_only() {
    let mut house = House::new(CONFIG);
    assert_eq!(house.run(&["run", "say something", "--model", "slow"]).code, 0);
    let words = ["store", "copy", "sqlite:state.db", "sqlite:moved/state.db"];
    let early = house.run(&words);
    assert_eq!(early.code, 7, "{}{}", early.out, early.err);
    for part in ["error[copy_waits]", "in use by process", "stop the server"] {
        assert!(early.err.contains(part), "`{part}` is not in\n{}", early.err);
    }
    let unfinished = house.run(&["audit", "verify", "--store", "sqlite:moved/state.db"]);
    assert!(unfinished.err.contains("not finished"), "{}{}", unfinished.out, unfinished.err);

    // It was used meanwhile, and whoever waits sees it stopped.
    assert_eq!(house.run(&["run", "and more", "--model", "slow"]).code, 0);
    let (mut waiting, said) = house.spawn(&[&words[..], &["--wait"]].concat());
    assert!(said.starts_with("round 1: "), "{said}");
    let before = house.run(&["session", "list"]);
    house.kill();
    assert!(waiting.wait().unwrap().success());

    let old = house.run(&["audit", "verify", "--store", "sqlite:state.db"]);
    let new = house.run(&["audit", "verify", "--store", "sqlite:moved/state.db"]);
    assert_eq!((new.code, &new.out), (0, &old.out), "{}", new.err);
    let again = house.run(&words);
    assert_eq!(again.code, 6, "{}{}", again.out, again.err);
    assert!(again.err.contains("error[copy_refused]"), "{}", again.err);

    house.start_on("sqlite:moved/state.db");
    assert_eq!(house.run(&["session", "list"]).out, before.out);
    assert_eq!(house.run(&["session", "send", "@", "go on"]).code, 0);
}
