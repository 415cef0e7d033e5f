//! Logs that earlier releases wrote, one file each, a row's body a line. They are folded on every build, for ever:
//! a change that reads one of them otherwise than before is a mistake, or a new kind of event.
//!
//! A release adds its own: `EVERSTATE_RECORD=0.2.0 cargo test -p everstate-kernel old`, then `UPDATE_EXPECT=1`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use everstate_kernel::event::{Append, Event};
use everstate_kernel::import;
use everstate_kernel::input::Input;
use everstate_kernel::request::illegal;
use everstate_kernel::state::Session;
use expect_test::expect_file;

use crate::story;
use crate::world::{World, carried};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/old")
}

#[test]
fn old_logs_are_read_as_ever() {
    if let Ok(release) = std::env::var("EVERSTATE_RECORD") {
        record(&release);
    }
    let mut n_logs = 0;
    for file in std::fs::read_dir(folder()).unwrap().map(|it| it.unwrap().path()) {
        if file.extension().is_none_or(|it| it != "jsonl") {
            continue;
        }
        n_logs += 1;
        let text = std::fs::read_to_string(&file).unwrap();
        let log: Vec<Append> = (1..)
            .zip(text.lines())
            .map(|(seq, row)| Append::decode(seq, row.as_bytes()).unwrap())
            .collect();
        let foreign =
            log.iter().flat_map(|it| &it.events).any(|it| matches!(it, Event::Foreign(_)));
        assert!(!foreign, "{}: an old kind of event is not known any more", file.display());

        let session = Session::replay(&log);
        assert_eq!(illegal(&session.transcript.sent()), None);
        let sent: Vec<_> = session.transcript.sent().iter().map(|it| (**it).clone()).collect();
        let told = format!("{}would send: {}\n", story::tell(&log), story::said(&sent));
        expect_file![file.with_extension("txt")].assert_eq(&told);
    }
    assert!(n_logs > 0, "there is a log of each release");
}

/// The life of a session in which the most kinds of things happen.
fn record(release: &str) {
    let kinds = |world: &World| -> BTreeSet<String> {
        world.log.iter().flat_map(|it| &it.events).map(|it| it.kind().to_owned()).collect()
    };
    let lives = (1..8_000).map(|seed| {
        let mut world = World::new(seed);
        (0..250).for_each(|_| world.tick());
        world
    });
    let world = lives.max_by_key(|it| kinds(it).len()).unwrap();
    let rows: Vec<String> =
        world.log.iter().map(|it| String::from_utf8(it.encode()).unwrap() + "\n").collect();
    std::fs::write(folder().join(format!("{release}.jsonl")), rows.concat()).unwrap();
    record_import(release);
}

/// A session that was carried away at the moment at which the most had to be left behind.
fn record_import(release: &str) {
    let left = |session: &Session| {
        let luggage = import::pack(session).expect("it was created");
        luggage.left_behind.len() + luggage.inheritance.open.len()
    };
    let moments = (1..4_000).map(|seed| {
        let mut world = World::new(seed);
        (0..60 + seed % 60).for_each(|_| world.tick());
        world
    });
    let world = moments.max_by_key(|it| left(it.session())).unwrap();
    let row = |append: &Append| String::from_utf8(append.encode()).unwrap() + "\n";
    let (carried, first) = carried(world.session(), world.now);
    let events = carried.decide(Input::Adopted { epoch: 2 }, &[], world.now).unwrap();
    let rows = row(&first) + &row(&Append { seq: 2, at: world.now, events });
    std::fs::write(folder().join(format!("{release}-import.jsonl")), rows).unwrap();
}
