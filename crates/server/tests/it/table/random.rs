//! Chance, the same for the same seed, and values that nobody should have to expect.

use serde_json::{Value, json};

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn of_kind(&mut self, kind: &Value) -> Value {
        match kind.as_str() {
            Some("string") => self.text(),
            Some("integer") => {
                let numbers = [0, 1, 2, 16, 100, -1, i64::MAX, i64::MIN];
                json!(numbers[self.below(numbers.len())])
            }
            Some("number") => {
                let numbers = [0.0, 0.5, 1.0, -1.0, 2.5, 1e308, -1e-308];
                json!(numbers[self.below(numbers.len())])
            }
            Some("boolean") => json!(self.below(2) == 0),
            Some("null") => Value::Null,
            _ => self.junk(),
        }
    }

    fn text(&mut self) -> Value {
        let texts = [
            "",
            " ",
            "rehearsal",
            "a text",
            "everstate",
            "call look {}",
            "\u{0}",
            "\u{feff}\u{202e}",
            "é\u{301}😀",
            "../../etc/passwd",
            "'; drop table sessions; --",
            "{user}",
            "%00%ff",
            "1e999",
            "null",
            "-1",
            "https://[::1]/",
            "data:image/png;base64,!!",
            "evt_0",
            "sess_0",
            "2026-99-99T00:00:00Z",
            "\r\nx-injected: 1",
        ];
        match self.below(40) {
            0 => json!("x".repeat(100_000)),
            1 => json!("😀".repeat(600)),
            _ => json!(texts[self.below(texts.len())]),
        }
    }

    /// A value of no kind in particular.
    pub(crate) fn junk(&mut self) -> Value {
        match self.below(16) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-1),
            3 => json!(u64::MAX),
            4 => json!(1.5e300),
            5 => json!([]),
            6 => json!({}),
            7 => json!([[[[[[[[7]]]]]]]]),
            8 => json!({ "type": "unheard_of" }),
            9 => json!([null, 1, "a", {}, []]),
            10 => (0..200).fold(json!(1), |inner, _| json!([inner])),
            11 => json!({ "": { "": { "": "" } } }),
            12 => json!({ "type": 7, "id": [], "content": {} }),
            _ => self.text(),
        }
    }
}
