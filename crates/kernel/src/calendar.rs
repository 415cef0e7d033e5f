//! Days and months, counted from the time that is handed in. UTC, without leap seconds, as Unix time is.

use crate::ids::Millis;

pub(crate) const DAY_MS: Millis = 86_400_000;

/// A month of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    pub(crate) year: u64,
    /// From 1.
    pub(crate) no: u64,
    /// Its first day, counted from 1970-01-01.
    pub(crate) first: u64,
    /// In days.
    pub(crate) length: u64,
}

impl Month {
    /// The month of a day that is counted from 1970-01-01.
    pub(crate) fn of(day: u64) -> Month {
        // 400 years are always as long: whole ones are skipped, so that counting has an end.
        const DAYS_400: u64 = 146_097;
        let (mut year, mut first) = (1970 + day / DAYS_400 * 400, day / DAYS_400 * DAYS_400);
        loop {
            let leap =
                year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let february = if leap { 29 } else { 28 };
            for (no, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
                if day < first + length {
                    return Month { year, no, first, length };
                }
                first += length;
            }
            year += 1;
        }
    }
}

/// From the first of January 1970 on.
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// What a model is told of the time: `It is 2026-11-23 07:10 UTC, Monday.`
pub fn told(now: Millis) -> String {
    let (day, minute) = (now / DAY_MS, now % DAY_MS / 60_000);
    let Month { year, no, first, .. } = Month::of(day);
    let weekday = WEEKDAYS[(day % 7) as usize];
    format!(
        "It is {year:04}-{no:02}-{:02} {:02}:{:02} UTC, {weekday}.",
        day - first + 1,
        minute / 60,
        minute % 60
    )
}
