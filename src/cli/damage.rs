//! Lines of trail files that are no records: counted, and the first of them named.

use serde::Serialize;
use sessiongate::trail::read::Damaged;

use super::output::tell;
use super::words::counted;

/// How many are named.
const NAMED: usize = 10;

/// Lines that are no records, as reports tell of them.
#[derive(Debug, Serialize)]
pub struct DamagedLines {
    /// How many.
    pub count: u64,
    /// The first of them: `file:line: what is wrong`.
    pub first: Vec<String>,
}

/// What was damaged.
#[derive(Debug, Default)]
pub struct Damage {
    /// How many lines.
    pub count: u64,
    named: Vec<Damaged>,
}

impl Damage {
    /// Notes a line.
    pub fn note(&mut self, damaged: Damaged) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(damaged);
        }
    }

    /// For a report.
    pub fn lines(&self) -> DamagedLines {
        DamagedLines { count: self.count, first: self.named.iter().map(ToString::to_string).collect() }
    }

    /// Says it on standard error, if there is something to say.
    pub fn report(&self) {
        if self.count == 0 {
            return;
        }
        self.named.iter().for_each(tell);
        let all = counted(usize::try_from(self.count).unwrap_or(usize::MAX), "line");
        let more = if self.count > NAMED as u64 { ", of which these are the first" } else { "" };
        tell(format_args!(
            "{all} no records of a trail, passed over{more}",
            all = all + if self.count == 1 { " was" } else { " were" }
        ));
    }
}
