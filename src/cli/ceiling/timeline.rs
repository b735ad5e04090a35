//! When batches were where: as a trace that browsers draw, and as shares of the time.

use std::time::Duration;

use serde::Serialize;

use crate::device::StageTimes;
use crate::lane::Flown;

/// A span in microseconds.
type Span = (f64, f64);

/// What Chrome's `about:tracing` and Perfetto read.
#[derive(Debug, Serialize)]
pub(super) struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
    #[serde(rename = "displayTimeUnit")]
    unit: &'static str,
}

#[derive(Debug, Serialize)]
struct Event {
    name: String,
    ph: &'static str,
    ts: f64,
    dur: f64,
    /// The lane,
    pid: usize,
    /// and what works: the lane's thread, or one of its streams.
    tid: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shares {
    pub(super) computing: f64,
    pub(super) copies_hidden: f64,
}

pub(super) fn trace(flown: &[Flown]) -> Trace {
    let zero = flown.iter().map(|batch| batch.begun).min().unwrap_or_default();
    let at = |time| us(time - zero);
    let mut events = Vec::new();
    for (index, batch) in flown.iter().enumerate() {
        let mut event = |what: &str, tid, (from, to): Span| {
            let name = format!("{what} {index}, {} rows", batch.rows);
            events.push(Event { name, ph: "X", ts: from, dur: to - from, pid: batch.lane, tid });
        };
        event("pack", "lane", (at(batch.begun), at(batch.packed)));
        event("launch", "lane", (at(batch.packed), at(batch.launched)));
        if let Some(times) = batch.device {
            let (up, compute, down) = spans(&times);
            // The two clocks have no common zero: as late as no batch lands before it is done.
            let same_lane = flown.iter().filter(|other| other.lane == batch.lane);
            let behind = same_lane.filter_map(|other| Some(at(other.landed) - spans(&other.device?).2.1));
            let shift = behind.fold(f64::INFINITY, f64::min);
            let shifted = |(from, to): Span| (from + shift, to + shift);
            event("upload", "upload", shifted(up));
            event("compute", "compute", shifted(compute));
            event("download", "download", shifted(down));
        }
    }
    Trace { events, unit: "ms" }
}

/// `None` without a device's own times, or from too few batches.
pub(super) fn shares(flown: &[Flown]) -> Option<Shares> {
    // One lane's: every lane counts from a zero of its own.
    let lane = flown.first()?.lane;
    let batches = flown.iter().filter(|batch| batch.lane == lane);
    let batches: Vec<_> = batches.map(|batch| batch.device.as_ref().map(spans)).collect::<Option<_>>()?;
    let compute: Vec<Span> = batches.iter().map(|batch| batch.1).collect();
    let (first, last) = (compute.first()?, compute.last()?);
    if compute.len() < 3 {
        return None;
    }
    // From one batch's start to another's, so that the gaps are as many as the batches.
    let busy: f64 = compute.iter().take(compute.len() - 1).map(|(from, to)| to - from).sum();
    let copies = || batches.iter().flat_map(|batch| [batch.0, batch.2]);
    let overlap = |copy: Span| -> f64 {
        compute.iter().map(|span| (copy.1.min(span.1) - copy.0.max(span.0)).max(0.0)).sum()
    };
    let hidden: f64 = copies().map(overlap).sum();
    let copied: f64 = copies().map(|(from, to)| to - from).sum();
    Some(Shares {
        computing: busy / (last.0 - first.0).max(f64::MIN_POSITIVE),
        copies_hidden: hidden / copied.max(f64::MIN_POSITIVE),
    })
}

/// Of the upload, of the compute stream, and of the download.
fn spans(times: &StageTimes) -> (Span, Span, Span) {
    let begun = us(times.begun);
    let uploaded = begun + us(times.upload);
    let started = uploaded + us(times.waited);
    let computed = started + us(times.compute);
    ((begun, uploaded), (started, computed), (computed, computed + us(times.download)))
}

#[allow(clippy::cast_precision_loss, reason = "no timeline takes years")]
fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::clock::Time;

    /// Batches of 100 µs each whose uploads take 10 µs; each is uploaded so long after the one before began.
    fn flights(every: u64, waited: &[u64]) -> Vec<Flown> {
        let us = Duration::from_micros;
        let at = |us: u64| Time::from_nanos(us * 1000);
        let flight = |(index, &waited): (u64, &u64)| {
            let begun = index * every;
            let device = StageTimes {
                begun: us(begun),
                upload: us(10),
                waited: us(waited),
                compute: us(100),
                download: us(5),
                ..StageTimes::default()
            };
            let landed = at(1000 + begun + 10 + waited + 100 + 5 + 2 * index);
            let (begun, packed, launched) = (at(990 + begun), at(995 + begun), at(1000 + begun));
            Flown { lane: 0, rows: 8, begun, packed, launched, landed, device: Some(device) }
        };
        (0..).zip(waited).map(flight).collect()
    }

    #[test]
    fn the_shares_tell_whether_batches_overlap() {
        // The next is there before the last is done: only the first upload is seen, and the last download.
        let Some(two) = shares(&flights(100, &[0, 0, 0, 0])) else { panic!("there are enough") };
        assert_eq!((two.computing, two.copies_hidden), (1.0, 45.0 / 60.0));
        let Some(one) = shares(&flights(125, &[0, 0, 0, 0])) else { panic!("there are enough") };
        assert_eq!((one.computing, one.copies_hidden), (0.8, 0.0));
        assert_eq!(shares(&flights(100, &[0, 0])), None);
    }

    #[test]
    fn the_devices_clock_is_laid_over_the_lanes() {
        let trace = trace(&flights(100, &[0]));
        let shown: String = trace
            .events
            .iter()
            .map(|event| format!("{} {} {}+{}\n", event.tid, event.name, event.ts, event.dur))
            .collect();
        expect![[r"
            lane pack 0, 8 rows 0+5
            lane launch 0, 8 rows 5+5
            upload upload 0, 8 rows 10+10
            compute compute 0, 8 rows 20+100
            download download 0, 8 rows 120+5
        "]]
        .assert_eq(&shown);
    }
}
