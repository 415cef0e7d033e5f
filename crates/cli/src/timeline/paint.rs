//! Fits lines to a width, and colours them if somebody wants that. The text is cut, never the cost.

use everstate_kernel::ids::Millis;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Line, Shape, Timeline, Tone, words};

/// How it shall look.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) width: usize,
    pub(crate) color: bool,
    pub(crate) zone: TimeZone,
}

const SEQ: usize = 3;
const TIME: usize = 8;
const STEP: usize = 5;
const WORD: usize = 9;
const COST: usize = 9;
/// Everything left of the text.
const LEFT: usize = SEQ + 1 + TIME + 2 + STEP + WORD + 1;
const WIDTH_MIN: usize = LEFT + COST + 12;

impl Look {
    /// The names of the columns.
    pub(crate) fn columns(&self) -> String {
        let text = self.text_width();
        let line = format!(
            "{:>SEQ$} {:>TIME$}  {:<STEP$}{:<WORD$} {:<text$}{:>COST$}",
            "SEQ", "TIME", "STEP", "WHAT", "", "COST",
        );
        self.tint(Tone::Dim, &line)
    }

    pub(crate) fn line(&self, line: &Line) -> String {
        let at = line.at.map(|it| self.time(it)).unwrap_or_default();
        let width = self.width.max(WIDTH_MIN);
        match line.shape {
            Shape::Fold => {
                let text = format!("{:>w$}        {}", "|", line.text, w = SEQ + 1 + TIME);
                self.tint(line.tone, &words::cut(&text, width))
            }
            Shape::Divider => {
                let gap = if at.is_empty() { "" } else { "  " };
                let text = format!(" -- {at}{gap}{} ", line.text);
                self.tint(line.tone, &format!("{text:-<width$}"))
            }
            Shape::Row => {
                let seq = line.seq.map(|it| it.to_string()).unwrap_or_default();
                // A long number takes its room from the text.
                let over = seq.len().saturating_sub(SEQ);
                let cost = match line.cost {
                    Some((micros, true)) => format!("~{}", words::money(micros)),
                    Some((micros, false)) => words::money(micros),
                    None => String::new(),
                };
                let room = self.text_width() - over.min(self.text_width());
                let left = format!("{seq:>SEQ$} {at:>TIME$}  {:<STEP$}", line.step);
                let word = self.tint(line.tone, &format!("{:<WORD$}", line.word));
                let tail = match line.tail.as_str() {
                    "" => String::new(),
                    tail => format!("  {tail}"),
                };
                let text = words::cut(&line.text, room.saturating_sub(tail.chars().count()).max(8));
                let text = format!("{text}{tail}");
                let whole = match cost.is_empty() {
                    true => format!("{left}{word} {text}"),
                    false => format!("{left}{word} {text:<room$}{cost:>COST$}"),
                };
                whole.trim_end().to_owned()
            }
        }
    }

    /// The whole: header, columns, lines.
    pub(crate) fn page(&self, timeline: &Timeline, lines: &[Line]) -> Vec<String> {
        let head = [timeline.header(), self.columns()];
        head.into_iter().chain(lines.iter().map(|it| self.line(it))).collect()
    }

    pub(crate) fn time(&self, at: Millis) -> String {
        let at = i64::try_from(at).ok().and_then(|it| Timestamp::from_millisecond(it).ok());
        let zoned = at.map(|it| it.to_zoned(self.zone.clone()));
        zoned.map(|it| it.strftime("%H:%M:%S").to_string()).unwrap_or_default()
    }

    /// A day and a time.
    pub(crate) fn date(&self, at: Millis) -> String {
        let at = i64::try_from(at).ok().and_then(|it| Timestamp::from_millisecond(it).ok());
        let zoned = at.map(|it| it.to_zoned(self.zone.clone()));
        zoned.map(|it| it.strftime("%-d %b %H:%M").to_string()).unwrap_or_default()
    }

    fn text_width(&self) -> usize {
        self.width.max(WIDTH_MIN) - LEFT - COST
    }

    pub(crate) fn tint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "31;1",
            Tone::Loud => "33;1",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
