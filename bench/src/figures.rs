//! Figures, and how they are written down.

use std::time::Duration;

/// How long single operations took, and all of them together.
#[derive(Debug, Default)]
pub(crate) struct Took {
    pub(crate) each: Vec<Duration>,
    pub(crate) all: Duration,
}

impl Took {
    pub(crate) fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }

    /// `at(0.99)`: 99 of 100 took no longer.
    pub(crate) fn at(&mut self, part: f64) -> Duration {
        self.each.sort_unstable();
        let n = (self.each.len() as f64 * part) as usize;
        self.each.get(n.min(self.each.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

pub(crate) fn ms(it: Duration) -> String {
    let ms = it.as_secs_f64() * 1e3;
    match ms {
        ..1.0 => format!("{ms:.3}"),
        ..10.0 => format!("{ms:.2}"),
        ..1_000.0 => format!("{ms:.1}"),
        _ => count(ms),
    }
}

/// `20501.4` as `20,501`.
pub(crate) fn count(it: f64) -> String {
    let digits = format!("{it:.0}");
    let n = digits.len();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (n - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn kib(bytes: u64) -> String {
    count(bytes as f64 / 1024.0)
}

/// A table in Markdown; the first column holds words, the others figures.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = format!("| {} |\n", head.join(" | "));
    let rules: Vec<&str> = (0..head.len()).map(|n| if n == 0 { "---" } else { "---:" }).collect();
    out.push_str(&format!("| {} |\n", rules.join(" | ")));
    for row in rows {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    out
}
