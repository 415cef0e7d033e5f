use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ON: Sampler = Sampler { parent_based: true, share: Share::All };

#[test]
fn what_is_read_is_written_the_same() {
    let place = Place::read(PARENT).expect("it is well-formed");
    assert!(place.sampled);
    assert_eq!(place.header(), PARENT);
    assert!(!Place::read(&PARENT.replace("-01", "-00")).expect("well-formed").sampled);
    // A later version says more, and means at least this.
    assert!(Place::read(&format!("01{}-more", &PARENT[2..])).is_some());
}

#[test]
fn what_is_not_well_formed_is_as_good_as_none() {
    let cases = [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-1",
    ];
    for case in cases {
        assert_eq!(Place::read(case), None, "{case}");
    }
}

#[test]
fn every_node_gives_a_turn_the_same_names() {
    let (session, other) = (SessionId(7), SessionId(8));
    let place = Place::of_turn(None, session, 1, &ON);
    assert_eq!(place, Place::of_turn(None, session, 1, &ON));
    assert_ne!(place.trace, Place::of_turn(None, session, 2, &ON).trace);
    assert_ne!(place.trace, Place::of_turn(None, other, 1, &ON).trace);
    assert_ne!(span_of(session, "1"), span_of(session, "1.1"));
    assert_eq!(
        Place::of_turn(Some(PARENT), session, 1, &ON),
        Place::read(PARENT).expect("well-formed")
    );
}

#[test]
fn a_share_of_the_traces_is_told_and_a_caller_decides_for_its_own() {
    let some = Sampler { parent_based: true, share: Share::Ratio(0.25) };
    let told = (0..4_000u32)
        .filter(|it| Place::of_turn(None, SessionId(u128::from(*it)), 1, &some).sampled)
        .count();
    assert!((800..1_200).contains(&told), "{told}");
    let caller = Place::read(PARENT);
    let off = Sampler { parent_based: true, share: Share::None };
    assert!(Place::of_request(caller, &off).sampled);
    assert!(!Place::of_request(None, &off).sampled);
    let never = Sampler { parent_based: false, share: Share::None };
    assert!(!Place::of_request(caller, &never).sampled);
}
