use super::*;

/// Nobody is gone, and nobody has let go of anything.
struct Everything;

impl Seen for Everything {
    fn is_gone(&self, _node: &str) -> bool {
        false
    }

    fn has_let_go(&self, _node: &str, _bucket: u16, _since: u64) -> bool {
        false
    }
}

struct Gone(BTreeSet<String>);

impl Seen for Gone {
    fn is_gone(&self, node: &str) -> bool {
        self.0.contains(node)
    }

    fn has_let_go(&self, node: &str, _bucket: u16, _since: u64) -> bool {
        self.0.contains(node)
    }
}

fn set(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

/// From one set of nodes to another: how many each has, and how many buckets moved.
fn check(names: &[&str], expected: &str) {
    let mut assignment = Assignment::default();
    let mut told = Vec::new();
    for names in names {
        let next = assignment.next(&set(names), 1, &Everything);
        let moved = (0..BUCKETS)
            .filter(|it| {
                next.seat(*it).map(|it| &it.owner) != assignment.seat(*it).map(|it| &it.owner)
            })
            .count();
        let has: Vec<String> =
            set(names).iter().map(|it| format!("{it} {}", next.of(it).len())).collect();
        told.push(format!("{}; {moved} moved", has.join(", ")));
        assignment = next;
    }
    assert_eq!(told.join("\n"), expected);
}

#[test]
fn buckets_follow_the_nodes() {
    check(
        &["a", "a b", "a b c", "a c", "c d", ""],
        "a 1024; 1024 moved\n\
         a 512, b 512; 512 moved\n\
         a 342, b 341, c 341; 341 moved\n\
         a 512, c 512; 341 moved\n\
         c 512, d 512; 512 moved\n\
         ; 0 moved",
    );
}

#[test]
fn many_changes_keep_it_balanced_and_move_little() {
    let mut draw = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: u64| {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        (draw >> 8) % n
    };
    let mut assignment = Assignment::default();
    for _ in 0..60 {
        let n_nodes = 1 + below(12);
        let members: BTreeSet<String> = (0..n_nodes).map(|_| format!("n{}", below(16))).collect();
        let next = assignment.next(&members, 1, &Everything);
        assert_eq!(next, assignment.next(&members, 1, &Everything), "everybody computes the same");
        let sizes: Vec<usize> = members.iter().map(|it| next.of(it).len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), usize::from(BUCKETS), "no bucket without an owner");
        let (least, most) = (sizes.iter().min(), sizes.iter().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{sizes:?}");
        // Moved are those without an owner, and what somebody has too much: with the sizes given, no less is possible.
        let moved: Buckets = (0..BUCKETS)
            .filter(|it| next.seat(*it).is_some_and(|it| it.since == next.revision))
            .collect();
        let mut had: Vec<usize> = members.iter().map(|it| assignment.of(it).len()).collect();
        had.sort_unstable();
        let mut fair: Vec<usize> = sizes.clone();
        fair.sort_unstable();
        let least: usize = had.iter().zip(&fair).map(|(had, fair)| fair.saturating_sub(*had)).sum();
        assert_eq!(moved.len(), least, "more was moved than had to be");
        for bucket in 0..BUCKETS {
            let (before, after) = (assignment.seat(bucket), next.seat(bucket));
            if !moved.has(bucket) {
                assert_eq!(before, after);
            } else if let (Some(before), Some(after)) = (before, after) {
                assert_ne!(before.owner, after.owner);
                let mut holders = before.from.clone();
                holders.insert(before.owner.clone());
                holders.remove(&after.owner);
                assert_eq!(after.from, holders);
            }
        }
        assignment = next;
    }
}

#[test]
fn nobody_waits_for_the_dead() {
    let assignment = Assignment::default().next(&set("a b"), 1, &Everything);
    let next = assignment.next(&set("a"), 1, &Gone(set("b")));
    assert!((0..BUCKETS).all(|it| next.seat(it).is_some_and(|it| it.from.is_empty())));
    let next = assignment.next(&set("a"), 1, &Everything);
    let from: BTreeSet<String> = (0..BUCKETS)
        .filter_map(|it| next.seat(it).filter(|it| it.since == next.revision))
        .flat_map(|it| it.from.clone())
        .collect();
    assert_eq!(from, set("b"), "it may be alive, and only leaving");
}

#[test]
fn it_is_read_as_it_was_written() {
    let assignment = Assignment::default().next(&set("a b c"), 1, &Everything);
    let assignment = assignment.next(&set("a c d"), 1, &Everything);
    let text = serde_json::to_string(&assignment).expect("it has a JSON form");
    assert!(text.len() < 60_000, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<Assignment>(&text).expect("it is read"), assignment);
}
