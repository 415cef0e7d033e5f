use super::*;

/// Looks at these times; each shows the beat of one node. Who was held dead, and when?
fn check(looks: &[(Millis, u64)], expected: &[Millis]) {
    let mut watch = Watch::new(10_000);
    let mut dead = Vec::new();
    for &(at, beat) in looks {
        let beats = BTreeMap::from([("a".to_owned(), Beat { epoch: 1, beat })]);
        if !watch.look(at, at + 1, beats).is_empty() {
            dead.push(at);
        }
    }
    assert_eq!(dead, expected);
}

fn every(step: usize, until: Millis, beat: impl Fn(Millis) -> u64) -> Vec<(Millis, u64)> {
    (0..=until).step_by(step).map(|at| (at, beat(at))).collect()
}

#[test]
fn only_silence_that_was_listened_to_counts() {
    check(&every(1_000, 60_000, |at| at / 2_000), &[]);
    check(&every(1_000, 12_000, |_| 1), &[11_000, 12_000]);
    // The watcher itself was away.
    let mut looks = every(1_000, 3_000, |_| 1);
    looks.extend([(60_000, 1), (61_000, 1), (62_000, 2)]);
    check(&looks, &[]);
    let mut looks = every(1_000, 3_000, |_| 1);
    looks.extend(every(1_000, 71_000, |_| 1).into_iter().filter(|it| it.0 >= 60_000));
    check(&looks, &[71_000]);
}
