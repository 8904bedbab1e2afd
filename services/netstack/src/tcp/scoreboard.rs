//! What was sent and is not acknowledged: which of it arrived (SACK), which is lost, when each was sent.

use super::{
    rack::{Delivered, Rack},
    seq::Seq,
};
use crate::time::Instant;
use std::{collections::VecDeque, time::Duration};

/// More records are not kept: then a block that would split one is taken as if it did not reach into it.
const MAX_RECORDS: usize = 16_384;

/// A piece that was sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub start: Seq,
    pub end: Seq,
    /// When it was sent last.
    pub at: Instant,
    pub sacked: bool,
    /// It is to be sent again.
    pub lost: bool,
    pub retransmitted: bool,
}

impl Sent {
    fn length(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn delivered(&self) -> Delivered {
        Delivered { end: self.end, at: self.at, retransmitted: self.retransmitted }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Scoreboard {
    records: VecDeque<Sent>,
    sacked: u64,
    lost: u64,
}

impl Scoreboard {
    pub(crate) fn push(&mut self, start: Seq, end: Seq, at: Instant) {
        self.records.push_back(Sent { start, end, at, sacked: false, lost: false, retransmitted: false });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes that arrived out of order.
    pub(crate) fn sacked(&self) -> u64 {
        self.sacked
    }

    /// Bytes to be sent again.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Bytes on the way.
    pub(crate) fn flight(&self) -> u64 {
        let all = self.records.iter().next().zip(self.records.back()).map_or(0, |(first, last)| last.end - first.start);
        all.saturating_sub(self.sacked + self.lost)
    }

    pub(crate) fn first(&self) -> Option<&Sent> {
        self.records.front()
    }

    pub(crate) fn last(&self) -> Option<&Sent> {
        self.records.back()
    }

    /// Everything before `to` has arrived.
    pub(crate) fn ack(&mut self, to: Seq, mut visit: impl FnMut(&Sent)) {
        while let Some(first) = self.records.front_mut() {
            if first.start >= to {
                return;
            }
            let whole = first.end <= to;
            let gone = Sent { end: first.end.min(to), ..*first };
            if first.sacked {
                self.sacked -= gone.length();
            }
            if first.lost {
                self.lost -= gone.length();
            }
            if whole {
                self.records.pop_front();
            } else {
                first.start = to;
            }
            visit(&gone);
        }
    }

    /// Splits the record that `at` lies in. False if there are too many.
    fn split(&mut self, at: Seq) -> bool {
        let index = self.records.partition_point(|record| record.end <= at);
        let Some(record) = self.records.get_mut(index).filter(|record| record.start < at) else { return true };
        let tail = Sent { start: at, ..*record };
        if self.records.len() >= MAX_RECORDS {
            return false;
        }
        if let Some(record) = self.records.get_mut(index) {
            record.end = at;
        }
        self.records.insert(index + 1, tail);
        true
    }

    /// `start..end` has arrived. Says how many bytes of it are news.
    pub(crate) fn sack(&mut self, start: Seq, end: Seq, mut visit: impl FnMut(&Sent)) -> u64 {
        let (Some(first), Some(last)) = (self.records.front(), self.records.back()) else { return 0 };
        let (start, end) = (start.max(first.start), end.min(last.end));
        if start >= end {
            return 0;
        }
        let (split_start, split_end) = (self.split(start), self.split(end));
        let mut news = 0;
        let from = self.records.partition_point(|record| record.end <= start);
        for record in self.records.iter_mut().skip(from) {
            if record.start >= end {
                break;
            }
            let inside = (record.start >= start || split_start) && (record.end <= end || split_end);
            if record.sacked || !inside || record.start < start || record.end > end {
                continue;
            }
            record.sacked = true;
            self.sacked += record.length();
            if std::mem::take(&mut record.lost) {
                self.lost -= record.length();
            }
            news += record.length();
            visit(record);
        }
        news
    }

    /// RACK's step 5: marks what must be lost by now. Says whether there was any, and how long to wait for what may be.
    pub(crate) fn detect(&mut self, rack: &Rack, window: Duration, now: Instant) -> (bool, Option<Duration>) {
        let Some(latest) = rack.latest else { return (false, None) };
        let (mut any, mut wait) = (false, None);
        for record in &mut self.records {
            if record.sacked || record.lost {
                continue;
            }
            if (record.at, record.end) >= latest {
                // What was never sent again stands in the order of sending: none of the rest was sent before.
                if !record.retransmitted {
                    break;
                }
                continue;
            }
            let due = record.at + rack.rtt + window;
            if due <= now {
                record.lost = true;
                self.lost += record.end - record.start;
                any = true;
            } else {
                let left = due.since(now);
                wait = Some(wait.map_or(left, |wait: Duration| wait.max(left)));
            }
        }
        (any, wait)
    }

    /// Marks the first `bytes` as lost: what duplicate acknowledgements tell where there is no SACK.
    pub(crate) fn lose_first(&mut self, bytes: u64) {
        let Some(&first) = self.records.front() else { return };
        self.split(first.start + bytes);
        if let Some(first) = self.records.front_mut()
            && !first.lost
            && !first.sacked
        {
            first.lost = true;
            self.lost += first.length();
        }
    }

    /// The timer ran out: nothing is on the way any more. A receiver that took back what it had reported is not believed.
    pub(crate) fn lose_all(&mut self) {
        let reneged = self.records.front().is_some_and(|first| first.sacked);
        for record in &mut self.records {
            if reneged && std::mem::take(&mut record.sacked) {
                self.sacked -= record.length();
            }
            if !record.sacked && !record.lost {
                record.lost = true;
                self.lost += record.length();
            }
        }
    }

    /// What was taken for lost was not.
    pub(crate) fn forgive(&mut self) {
        for record in &mut self.records {
            record.lost = false;
        }
        self.lost = 0;
    }

    /// The next piece to send again.
    pub(crate) fn next_lost(&self) -> Option<(Seq, Seq)> {
        if self.lost == 0 {
            return None;
        }
        self.records.iter().find(|record| record.lost).map(|record| (record.start, record.end))
    }

    /// `start..end`, within one record, is sent again.
    pub(crate) fn resent(&mut self, start: Seq, end: Seq, at: Instant) {
        self.split(start);
        self.split(end);
        let index = self.records.partition_point(|record| record.end <= start);
        if let Some(record) = self.records.get_mut(index) {
            record.at = at;
            record.retransmitted = true;
            if std::mem::take(&mut record.lost) {
                self.lost -= record.length();
            }
        }
    }
}

#[cfg(test)]
mod tests;
