//! Slices of a limit: what is handed out, comes back or is lost with its holder never adds up to more than the limit.

use std::collections::BTreeMap;

use everstate_kernel::ids::Millis;
use everstate_kernel::slice::{Per, Slices, Spent, portion};
use expect_test::{Expect, expect};
use proptest::prelude::*;

const HOLDERS: [&str; 3] = ["1", "2", "3"];

/// Something happens to one of three holders.
#[derive(Clone, Debug)]
enum Tick {
    Lease(usize, u64),
    /// It spends up to so much of what it may, and its log tells.
    Spend(usize, u64),
    Settle(usize),
    GiveBack(usize),
    /// It dies with what it knew, and others find in its log what it did.
    Die(usize),
    /// As `Die`, but its log cannot be read.
    Vanish(usize),
    Recount,
    Limit(u64),
}

fn any_tick() -> impl Strategy<Value = Tick> {
    let who = 0..HOLDERS.len();
    prop_oneof![
        (who.clone(), 0..400_u64).prop_map(|(who, n)| Tick::Lease(who, n)),
        (who.clone(), 0..100_u64).prop_map(|(who, n)| Tick::Spend(who, n)),
        who.clone().prop_map(Tick::Settle),
        who.clone().prop_map(Tick::GiveBack),
        who.clone().prop_map(Tick::Die),
        who.prop_map(Tick::Vanish),
        Just(Tick::Recount),
        (500..2_000_u64).prop_map(Tick::Limit),
    ]
}

/// A holder's memory and its log.
#[derive(Default)]
struct Holder {
    unsettled: Vec<Spent>,
    log: Vec<Spent>,
}

impl Holder {
    fn unsettled(&self) -> u64 {
        self.unsettled.iter().map(|it| it.amount).sum()
    }
}

proptest! {
    #[test]
    fn no_interleaving_spends_more_than_the_limit(
        ticks in prop::collection::vec(any_tick(), 1..80),
        per in prop::sample::select(vec![Per::Day, Per::Month, Per::Total]),
        pace in prop::sample::select(vec![1_u64, 1_000_000, 40_000_000]),
    ) {
        let (mut now, mut limit): (Millis, u64) = (1_700_000_000_000, 1_000);
        let mut slices = Slices::begin(per, now, 0, 0);
        let mut holders: BTreeMap<usize, Holder> = BTreeMap::new();
        let mut highest = limit;
        for tick in ticks {
            now += pace;
            slices.pass(now);
            let left = |slices: &Slices, who: usize| slices.out.get(HOLDERS[who]).map_or(0, |it| it.left);
            match tick {
                Tick::Lease(who, want) => {
                    let unsettled = std::mem::take(&mut holders.entry(who).or_default().unsettled);
                    slices.settle(HOLDERS[who], &unsettled, now, false);
                    let (had, free) = (left(&slices, who), slices.free(limit));
                    let granted = slices.lease(limit, HOLDERS[who], want);
                    prop_assert!(granted <= want && granted <= free);
                    prop_assert_eq!(left(&slices, who), had + granted);
                }
                Tick::Spend(who, most) => {
                    let holder = holders.entry(who).or_default();
                    let amount = most.min(left(&slices, who).saturating_sub(holder.unsettled()));
                    let spent = Spent { at: now, amount };
                    holder.unsettled.push(spent);
                    holder.log.push(spent);
                }
                Tick::Settle(who) => {
                    let holder = holders.entry(who).or_default();
                    let unsettled = std::mem::take(&mut holder.unsettled);
                    slices.settle(HOLDERS[who], &unsettled, now, false);
                    // Told twice, it counts once.
                    let once = slices.clone();
                    slices.settle(HOLDERS[who], &unsettled, now, false);
                    prop_assert_eq!(&slices, &once);
                }
                Tick::GiveBack(who) => {
                    let keep = holders.entry(who).or_default().unsettled();
                    slices.give_back(HOLDERS[who], keep);
                }
                Tick::Die(who) => {
                    let holder = holders.entry(who).or_default();
                    holder.unsettled.clear();
                    let log = holder.log.clone();
                    slices.reclaim(HOLDERS[who], &log, 0);
                    prop_assert_eq!(left(&slices, who), 0);
                }
                Tick::Vanish(who) => {
                    let holder = holders.entry(who).or_default();
                    holder.unsettled.clear();
                    // Its log is never found: what it held counts as spent from here on.
                    holder.log.clear();
                    let lost = left(&slices, who);
                    let spent = slices.spent();
                    slices.forfeit(HOLDERS[who]);
                    prop_assert_eq!(slices.spent(), spent + lost);
                }
                Tick::Recount => {
                    // Only told where no holder's log was lost.
                    if slices.unlogged == 0 {
                        let logs = holders.values().flat_map(|it| &it.log);
                        let spent = logs.filter(|it| it.at >= per.since(now)).map(|it| it.amount).sum();
                        let unsettled: u64 = holders.values().map(Holder::unsettled).sum();
                        let settled = slices.spent();
                        slices.recount(per, now, spent, now);
                        prop_assert!(spent <= settled + unsettled);
                    }
                }
                Tick::Limit(to) => limit = to,
            }
            highest = highest.max(limit);
            // Nothing appears and nothing is lost...
            if slices.spent() + slices.leased() <= limit {
                prop_assert_eq!(slices.spent() + slices.leased() + slices.free(limit), limit);
            } else {
                prop_assert_eq!(slices.free(limit), 0);
            }
            // ...and nobody has more unsettled than it holds.
            for (who, holder) in &holders {
                prop_assert!(holder.unsettled() <= left(&slices, *who));
            }
            let logs = holders.values().flat_map(|it| &it.log);
            let told: u64 = logs.filter(|it| it.at >= slices.since).map(|it| it.amount).sum();
            prop_assert!(told <= highest, "{} of {}", told, highest);
            prop_assert!(slices.spent() <= highest);
        }
    }

    #[test]
    fn a_portion_is_there_and_leaves_something(free in 0..10_000_000_u64, need in 0..1_000_000_u64) {
        let portion = portion(free, need);
        prop_assert!(portion <= free);
        prop_assert!(need > free || portion >= need);
        prop_assert!(need > free / 80 || portion <= free / 20 + 1);
    }

    #[test]
    fn a_time_is_in_its_period(now in 0..4_102_444_800_000_u64) {
        for per in [Per::Day, Per::Month, Per::Total] {
            let (since, until) = (per.since(now), per.until(now));
            prop_assert!(since <= now && until.is_none_or(|it| now < it));
            prop_assert_eq!(per.since(since), since);
            if let Some(until) = until {
                prop_assert_eq!(per.since(until), until);
                prop_assert_eq!(per.since(until - 1), since);
            }
        }
    }
}

fn check(at: Millis, told: Expect) {
    let line = |per: Per| format!("{per:?} {} {:?}\n", per.since(at), per.until(at));
    told.assert_eq(&[Per::Day, Per::Month, Per::Total].map(line).concat());
}

#[test]
fn months_are_as_long_as_they_are() {
    // 2024-02-29T12:00Z, 2100-02-28T12:00Z (no leap year), 2026-11-23T03:00Z.
    check(
        1_709_208_000_000,
        expect![[r#"
        Day 1709164800000 Some(1709251200000)
        Month 1706745600000 Some(1709251200000)
        Total 0 None
    "#]],
    );
    check(
        4_107_499_200_000,
        expect![[r#"
        Day 4107456000000 Some(4107542400000)
        Month 4105123200000 Some(4107542400000)
        Total 0 None
    "#]],
    );
    check(
        1_795_402_800_000,
        expect![[r#"
        Day 1795392000000 Some(1795478400000)
        Month 1793491200000 Some(1796083200000)
        Total 0 None
    "#]],
    );
}

#[test]
fn a_new_period_begins_with_nothing_spent_and_what_is_out_stays_out() {
    let day = 86_400_000;
    let mut slices = Slices::begin(Per::Day, day, 300, day);
    slices.lease(1_000, "1", 500);
    assert_eq!((slices.spent(), slices.leased(), slices.free(1_000)), (300, 500, 200));
    let unsettled = [Spent { at: day + 1, amount: 100 }, Spent { at: 2 * day, amount: 50 }];
    slices.pass(2 * day);
    slices.settle("1", &unsettled, 2 * day, false);
    // What was spent yesterday is not of today.
    assert_eq!((slices.spent(), slices.leased(), slices.free(1_000)), (50, 350, 600));
    // A clock that is behind brings nothing back.
    slices.pass(day);
    assert_eq!((slices.since, slices.spent()), (2 * day, 50));
}

#[test]
fn what_is_under_way_stays_out_until_it_was_taken_over() {
    let mut slices = Slices::begin(Per::Total, 10, 0, 0);
    slices.settle("1", &[], 10, false);
    slices.lease(1_000, "1", 400);
    let log = [Spent { at: 9, amount: 7 }, Spent { at: 11, amount: 100 }];
    slices.reclaim("1", &log, 250);
    assert_eq!((slices.spent(), slices.leased(), slices.free(1_000)), (100, 250, 650));
    // Read again, it counts once; a word that came late counts too.
    let late = [log[0], log[1], Spent { at: 12, amount: 1 }];
    slices.reclaim("1", &late, 0);
    assert_eq!((slices.spent(), slices.leased(), slices.free(1_000)), (101, 0, 899));
    // Remembered for an hour, then forgotten.
    slices.pass(3_600_011);
    assert!(slices.out.contains_key("1"));
    slices.pass(3_600_012);
    assert!(slices.out.is_empty());
}

#[test]
fn what_no_log_tells_survives_a_recount() {
    let mut slices = Slices::begin(Per::Total, 10, 0, 0);
    slices.settle("1.m", &[Spent { at: 11, amount: 30 }], 11, true);
    slices.lease(1_000, "1.m", 100);
    slices.forfeit("1.m");
    slices.settle("2", &[Spent { at: 12, amount: 5 }], 12, false);
    assert_eq!((slices.spent, slices.unlogged), (5, 130));
    slices.recount(Per::Total, 20, 6, 20);
    assert_eq!((slices.spent(), slices.unlogged), (136, 130));
    // It was read already.
    slices.settle("2", &[Spent { at: 13, amount: 1 }], 13, false);
    assert_eq!(slices.spent(), 136);
}

#[test]
fn counting_begins_where_its_period_does() {
    let day = 86_400_000;
    let slices = Slices::begin(Per::Day, 3 * day + 7, 300, 3 * day + 5);
    assert_eq!((slices.since, slices.spent, slices.counted_to), (3 * day, 300, 3 * day + 5));
    assert_eq!((slices.per, slices.unlogged, slices.out.len()), (Per::Day, 0, 0));
}

#[test]
fn a_recount_in_a_later_period_forgets_what_no_log_tells() {
    let day = 86_400_000;
    let mut slices = Slices { unlogged: 40, ..Slices::begin(Per::Day, day, 300, day) };
    // The same day, and a day that was: a clock that is behind forgives nothing.
    slices.recount(Per::Day, day + 9, 10, day + 9);
    assert_eq!((slices.spent, slices.unlogged), (10, 40));
    slices.recount(Per::Total, day + 9, 20, day + 9);
    assert_eq!((slices.since, slices.unlogged), (0, 40));
    slices.recount(Per::Day, 2 * day, 5, 2 * day);
    assert_eq!((slices.since, slices.spent, slices.unlogged), (2 * day, 5, 0));
}

#[test]
fn a_portion_is_a_few_steps_or_a_part_of_what_is_free() {
    let portions = [(2_000, 0), (2_000, 30), (2_000, 600), (7, 0), (7, 2)];
    assert_eq!(portions.map(|(free, need)| portion(free, need)), [100, 120, 2_000, 0, 7]);
}
