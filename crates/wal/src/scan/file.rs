//! One file, from its first batch to its end.

use refloat_types::Generation;
use std::path::Path;

use super::parse::{BlockSeen, FileReader, Found, Parsed};
use super::salvage::Wreck;
use super::{Sink, Trust};
use crate::format::batch::{BatchHeader, CLOSED, SEAL};
use crate::format::{BLOCK, FIRST_BATCH_BLOCK, offset_of};
use crate::verdict::{Judgement, Seen, judge};
use crate::{Damage, DamageKind, Lsn, Owners, Verdict};

/// Where another file says that this one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) end: u32,
    pub(crate) last: u32,
    pub(crate) digest: Option<u32>,
}

/// What is known about a file before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    pub(crate) generation: Generation,
    pub(crate) path: &'a Path,
    /// How long the file should be, in blocks.
    pub(crate) blocks: u32,
    /// Its end, if it has a link or a next file that names it.
    pub(crate) limit: Option<Limit>,
    /// Whether something outside proves the first batch durable.
    pub(crate) named: bool,
    /// Whether it is the newest file: only its tail can be awaited by anybody.
    pub(crate) newest: bool,
    /// The last batch that somebody outside of the log remembers to have been durable; 0 if nobody
    /// remembers any.
    pub(crate) witnessed: u32,
}

/// Where a file ended, and what to say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    pub(crate) batches: u32,
    pub(crate) end: u32,
    pub(crate) closed: bool,
    /// What a link would say: the end before everything that is written again.
    pub(crate) limit: Limit,
    /// Digest and blocks of the first batch, where it verifies.
    pub(crate) first: Option<(u32, u32)>,
}

/// A verified batch, kept back until it is known whether something proves it.
#[derive(Debug)]
struct Held {
    start: u32,
    parsed: Parsed,
}

/// How many blocks that the file does not have are looked for, however long it is said to be: as
/// many as an ordinary file has at most. Each takes memory.
const MAX_MISSING: u32 = (2 << 30) / BLOCK as u32;

pub(crate) struct FileScan<'a, 'f, 'r, 'v> {
    bounds: Bounds<'a>,
    reader: &'r mut FileReader<'f>,
    sink: &'r mut Sink<'v>,
    /// Where the next batch should start, and its number.
    cursor: u32,
    number: u32,
    stop: u32,
    held: Option<Held>,
    batches: u32,
    /// The digest of the batch before `number`, where it is known.
    digest: Option<u32>,
    /// Blocks from `surveyed_from` on, looked at once, at the first trouble.
    survey: Vec<BlockSeen>,
    surveyed_from: u32,
    closed: bool,
    /// Where what must be written again begins.
    again_from: Option<Limit>,
    first: Option<(u32, u32)>,
}

enum Step {
    GoOn,
    Stop(Verdict),
}

impl<'a, 'f, 'r, 'v> FileScan<'a, 'f, 'r, 'v> {
    pub(crate) fn new(
        bounds: Bounds<'a>,
        reader: &'r mut FileReader<'f>,
        sink: &'r mut Sink<'v>,
    ) -> FileScan<'a, 'f, 'r, 'v> {
        let stop = bounds.limit.map_or(bounds.blocks, |limit| limit.end);
        let stop = stop.min(reader.window.file_blocks().saturating_add(MAX_MISSING));
        FileScan {
            bounds,
            reader,
            sink,
            cursor: FIRST_BATCH_BLOCK,
            number: 1,
            stop,
            held: None,
            batches: 0,
            digest: None,
            survey: Vec::new(),
            surveyed_from: 0,
            closed: false,
            again_from: None,
            first: None,
        }
    }

    pub(crate) fn run(mut self) -> Ended {
        let mut verdict = Verdict::Good;
        while self.cursor < self.stop && !self.is_past_last() {
            if let Step::Stop(end) = self.step() {
                verdict = end;
                break;
            }
            if self.closed {
                break;
            }
        }
        self.finish(verdict)
    }

    fn is_past_last(&self) -> bool {
        self.bounds.limit.is_some_and(|limit| self.number > limit.last)
    }

    fn step(&mut self) -> Step {
        match self.reader.batch_at(self.cursor, self.number, self.stop) {
            Ok(parsed) => {
                self.accept(parsed);
                Step::GoOn
            }
            Err(_) => self.look_again(),
        }
    }

    /// The batch at the cursor does not verify. Looks at what stands behind it, then at the
    /// batch once more: beside a running writer the evidence must not be younger than the batch.
    fn look_again(&mut self) -> Step {
        if self.survey.is_empty() {
            self.surveyed_from = self.cursor;
            self.survey = self.reader.survey(self.cursor, self.stop);
        }
        self.reader.window.forget();
        match self.reader.batch_at(self.cursor, self.number, self.stop) {
            Ok(parsed) => {
                self.accept(parsed);
                Step::GoOn
            }
            Err(header) => self.trouble(header),
        }
    }

    fn accept(&mut self, parsed: Parsed) {
        let named = parsed.header.previous.digest;
        let broken = self.number > 1 && self.digest.is_some() && self.digest != named;
        self.settle(true, broken.then_some("the next batch names another digest"));
        self.closed = parsed.header.flags & CLOSED != 0;
        self.digest = Some(parsed.digest);
        let start = self.cursor;
        if self.number == 1 {
            self.first = Some((parsed.digest, start + parsed.header.blocks));
        }
        self.cursor += parsed.header.blocks;
        self.number += 1;
        self.batches += 1;
        self.held = Some(Held { start, parsed });
    }

    /// Gives out the batch kept back. Returns it where nothing proves it and it must be written
    /// again.
    fn settle(&mut self, proven: bool, contradiction: Option<&str>) -> Option<Limit> {
        let Held { start, parsed } = self.held.take()?;
        let header = parsed.header;
        let at = self.lsn(header.batch);
        let trust = match (contradiction, proven) {
            (Some(_), _) => Trust::Salvaged,
            (None, true) => Trust::Proven,
            (None, false) => Trust::Unproven,
        };
        let again = !proven && self.bounds.newest && header.flags & (SEAL | CLOSED) == 0;
        for found in parsed.records {
            self.give(at, trust, found, again);
        }
        if let Some(evidence) = contradiction {
            let owners = Owners::Known(Vec::new());
            self.report(header.batch, start, header.blocks, DamageKind::Rotten, owners, evidence);
        }
        let digest = header.previous.digest.filter(|_| header.batch > 1);
        (!proven).then_some(Limit { end: start, last: header.batch - 1, digest })
    }

    fn give(&mut self, at: Lsn, trust: Trust, found: Found, again: bool) {
        if again && !found.of_checkpoint {
            self.sink.again(&found);
        } else {
            self.sink.carry(&found);
        }
        if !found.missing_configs.is_empty() {
            self.sink.visit.missing_configs(found.record.group(), &found.missing_configs);
        }
        self.sink.visit.record(at, trust, found.record, &found.missing);
    }

    fn lsn(&self, batch: u32) -> Lsn {
        Lsn::new(self.bounds.generation, batch)
    }

    fn report(
        &mut self,
        batch: u32,
        block: u32,
        blocks: u32,
        kind: DamageKind,
        owners: Owners,
        evidence: &str,
    ) {
        self.sink.damage(Damage {
            at: self.lsn(batch),
            path: self.bounds.path.to_path_buf(),
            offset: offset_of(block),
            blocks: u64::from(blocks),
            kind,
            owners,
            evidence: evidence.to_owned(),
        });
    }

    /// The batch expected at the cursor does not verify: look past it, then judge.
    fn trouble(&mut self, header: Option<BatchHeader>) -> Step {
        let header = header.filter(|header| header.blocks > 0);
        let later = self.later_than(self.number);
        let linked = self.bounds.limit.is_some_and(|limit| limit.last >= self.number);
        let named = self.number == 1 && self.bounds.named;
        let witnessed = self.bounds.witnessed >= self.number;
        let region_end = self.region_end(header.as_ref());
        let region = self.looked_at(self.cursor, region_end);
        let number = self.number;
        let seen = Seen {
            verifies: false,
            proven: later.is_some() || linked || named || witnessed,
            first_block_before: region.first().is_none_or(BlockSeen::is_before),
            fragment: region.iter().any(|b| (b.low..=b.high).contains(&number)),
            before: region.iter().any(|b| b.before != 0),
            bad: region.iter().any(|b| b.bad != 0),
        };
        let evidence = match later {
            Some((block, batch)) => {
                format!("a sector of batch {batch} at {} proves it durable", offset_of(block))
            }
            None if linked => "the next file names it".to_owned(),
            None if named => "the file before names this one".to_owned(),
            None => {
                format!("batch {} was durable, as is known from elsewhere", self.bounds.witnessed)
            }
        };
        match judge(&seen) {
            Judgement::Rotten => self.rotten(header.as_ref(), region_end, &evidence),
            Judgement::Suspect => self.suspect(header.as_ref(), &seen, region_end),
            Judgement::Torn => {
                let blocks = u64::from(region_end - self.cursor);
                self.end_behind_held(seen.fragment, Verdict::Torn { blocks })
            }
            Judgement::End | Judgement::Good | Judgement::Unproven => {
                self.report_short();
                self.end_behind_held(false, Verdict::Good)
            }
        }
    }

    /// The first sector of a batch above `number` at or behind the cursor.
    fn later_than(&self, number: u32) -> Option<(u32, u32)> {
        let last = self.bounds.limit.map_or(u32::MAX, |limit| limit.last);
        let blocks = (self.cursor..).zip(self.looked_at(self.cursor, self.stop));
        blocks.filter(|(_, b)| b.high > number && b.high <= last).map(|(at, b)| (at, b.high)).next()
    }

    fn looked_at(&self, from: u32, to: u32) -> &[BlockSeen] {
        let index = |block: u32| block.saturating_sub(self.surveyed_from) as usize;
        let to = index(to).min(self.survey.len());
        self.survey.get(index(from).min(to)..to).unwrap_or_default()
    }

    /// Where the batch at the cursor ends: as its header says; else behind its last sector, or
    /// what is bad in one piece with it.
    fn region_end(&self, header: Option<&BatchHeader>) -> u32 {
        if let Some(header) = header {
            return self.cursor.saturating_add(header.blocks).min(self.stop);
        }
        let own_end = self.behind_own(self.number).unwrap_or(self.cursor + 1);
        let beyond = self.looked_at(own_end, self.stop).iter().take_while(|b| b.bad != 0).count();
        own_end + beyond as u32
    }

    fn rotten(&mut self, header: Option<&BatchHeader>, region_end: u32, evidence: &str) -> Step {
        self.settle(true, None);
        let first = self.number;
        let (block, batch) = self.next_start(header, region_end);
        // Behind a linked end stands dead matter, and maybe a seal with a copy of the directory.
        let wreck = Wreck::search(self.reader, self.cursor, block, true);
        let mut start = self.cursor;
        for number in first..batch {
            // Where the next one starts; each takes a block at least.
            let next = self.start_of(&wreck, number + 1).filter(|_| number + 1 < batch);
            let least = if number + 1 < batch { start + 1 } else { block };
            let end = next.unwrap_or(least).clamp(start, block.max(start));
            self.give_salvaged(&wreck, number, (start, end), DamageKind::Rotten, evidence, false);
            if start >= block {
                // More numbers than blocks: no more of them can be told apart.
                break;
            }
            start = end;
        }
        self.cursor = block;
        self.number = batch;
        self.digest = None;
        if block >= self.stop || !self.goes_on(header, block) {
            return Step::Stop(Verdict::Rotten);
        }
        Step::GoOn
    }

    /// Whether anything is known to stand at or behind a block.
    fn goes_on(&self, header: Option<&BatchHeader>, block: u32) -> bool {
        let more = self.looked_at(block, self.stop);
        header.is_some() || self.bounds.limit.is_some() || more.iter().any(|b| b.high > 0)
    }

    /// Where to go on behind a rotten batch, and with which number.
    fn next_start(&self, header: Option<&BatchHeader>, region_end: u32) -> (u32, u32) {
        if header.is_some() {
            return (region_end, self.number + 1);
        }
        let last = self.bounds.limit.map_or(u32::MAX, |limit| limit.last);
        let behind = || (self.cursor + 1..).zip(self.looked_at(self.cursor + 1, self.stop));
        let mut headers = behind().filter(|(_, b)| b.header > self.number && b.header <= last);
        if let Some((block, seen)) = headers.next() {
            return (block, seen.header);
        }
        if let Some(limit) = self.bounds.limit {
            return (limit.end, limit.last + 1);
        }
        // No later batch has a header left: what the highest number shows is the tail.
        let highest = behind().map(|(_, b)| b.high).max().filter(|high| *high > self.number);
        let tail = highest.and_then(|high| behind().find(|(_, b)| b.high == high));
        let Some((block, seen)) = tail else { return (region_end, self.number + 1) };
        // It has no header: blocks in front of it that were never written may have been its first.
        let before = self.looked_at(self.cursor + 1, block);
        let lost = before.iter().rev().take_while(|b| b.is_before()).count();
        (block - lost as u32, seen.high)
    }

    fn start_of(&self, wreck: &Wreck, number: u32) -> Option<u32> {
        let tagged = (self.cursor..)
            .zip(self.looked_at(self.cursor, self.stop))
            .find(|(_, b)| (b.low..=b.high).contains(&number))
            .map(|(block, _)| block);
        wreck.start_of(number).or(tagged)
    }

    fn give_salvaged(
        &mut self,
        wreck: &Wreck,
        number: u32,
        (start, end): (u32, u32),
        kind: DamageKind,
        evidence: &str,
        again: bool,
    ) {
        let salvage = wreck.salvage(number);
        let at = self.lsn(number);
        for found in salvage.records {
            self.give(at, Trust::Salvaged, found, again);
        }
        self.report(number, start, end - start, kind, salvage.owners, evidence);
    }

    fn suspect(&mut self, header: Option<&BatchHeader>, seen: &Seen, region_end: u32) -> Step {
        let (start, number) = (self.cursor, self.number);
        // Without a header what is bad behind its last sector may be its own or a later batch's.
        let own_end = match header {
            Some(_) => region_end,
            None => self.behind_own(number).unwrap_or(region_end),
        };
        let again = self.bounds.newest;
        let wreck = Wreck::search(self.reader, start, region_end, false);
        // A sector of this batch proves the one before; mere garbage proves nothing.
        let proven = seen.fragment || wreck.start_of(number).is_some();
        let stop = self.end_behind_held(proven, Verdict::Suspect);
        let evidence = match (seen.fragment, seen.before) {
            (true, false) => "every sector of it is there and the content does not verify",
            (true, true) => "some of its sectors are damaged, not merely unwritten",
            (false, _) => "sectors where it would start are damaged, not merely unwritten",
        };
        let blocks = (start, own_end);
        self.give_salvaged(&wreck, number, blocks, DamageKind::Suspect, evidence, again);
        self.suspect_behind(own_end);
        stop
    }

    /// What is bad right behind a suspect batch may have been the batches after it, of which no
    /// sector is left to prove it.
    fn suspect_behind(&mut self, block: u32) {
        let behind = self.looked_at(block, self.stop);
        let blocks = behind.iter().take_while(|seen| seen.bad != 0).count() as u32;
        if blocks > 0 {
            let evidence = "damaged, not merely unwritten, right behind a batch that is suspect";
            let kind = DamageKind::Suspect;
            self.report(self.number + 1, block, blocks, kind, Owners::Unknown, evidence);
        }
    }

    /// The block behind the last one with a sector of a batch.
    fn behind_own(&self, number: u32) -> Option<u32> {
        let blocks = self.looked_at(self.cursor, self.stop);
        let own = blocks.iter().rposition(|b| (b.low..=b.high).contains(&number))?;
        Some(self.cursor + own as u32 + 1)
    }

    fn report_short(&mut self) {
        let have = self.reader.window.file_blocks();
        if have < self.bounds.blocks && self.bounds.limit.is_none() {
            let evidence = format!(
                "the file was made {} bytes long and has {}; it is cut behind its last batch",
                offset_of(self.bounds.blocks),
                offset_of(have)
            );
            let blocks = self.bounds.blocks - have;
            let owners = Owners::Known(Vec::new());
            self.report(self.number, have, blocks, DamageKind::Missing, owners, &evidence);
        }
    }

    /// Ends the file: gives out the batch kept back, proven or not.
    fn end_behind_held(&mut self, fragment_behind: bool, verdict: Verdict) -> Step {
        let Some(held) = &self.held else {
            let nothing_behind_damage = verdict == Verdict::Good && self.number > 1;
            let is_rotten = nothing_behind_damage && self.digest.is_none();
            return Step::Stop(if is_rotten { Verdict::Rotten } else { verdict });
        };
        let header = held.parsed.header;
        let named = header.batch == 1 && self.bounds.named;
        let limit = self.bounds.limit;
        let linked = limit.is_some_and(|limit| limit.last >= header.batch);
        let contradicted = limit.is_some_and(|limit| {
            limit.last == header.batch && limit.digest.is_some_and(|d| d != held.parsed.digest)
        });
        let witnessed = self.bounds.witnessed >= header.batch;
        let proven = fragment_behind || named || linked || witnessed;
        let promises = header.flags & (SEAL | CLOSED) == 0;
        let contradiction = contradicted.then_some("the next file names another digest");
        self.again_from = self.settle(proven, contradiction);
        let is_unproven = verdict == Verdict::Good && !proven && promises;
        Step::Stop(if is_unproven { Verdict::Unproven } else { verdict })
    }

    fn finish(mut self, verdict: Verdict) -> Ended {
        let mut verdict = verdict;
        if self.held.is_some()
            && let Step::Stop(end) = self.end_behind_held(false, verdict)
        {
            verdict = end;
        }
        if let Some(limit) = self.bounds.limit.filter(|limit| self.number <= limit.last) {
            let evidence = format!("the next file names batch {} as the last", limit.last);
            let (number, block) = (self.number, self.cursor);
            let blocks = limit.end.saturating_sub(block);
            self.report(number, block, blocks, DamageKind::Rotten, Owners::Unknown, &evidence);
            verdict = Verdict::Rotten;
        }
        let behind = Limit { end: self.cursor, last: self.number - 1, digest: self.digest };
        Ended {
            verdict,
            batches: self.batches,
            end: self.cursor,
            closed: self.closed,
            limit: self.again_from.unwrap_or(behind),
            first: self.first,
        }
    }
}
