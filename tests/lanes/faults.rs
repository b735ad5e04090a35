//! Faults on command: whatever a run does, every request of its batch is answered once, and those after it are served.

use expect_test::{Expect, expect};

use super::fixture::{Client, Model, Setup, Then};

/// What a batch meets: what its runs are told one after the other, and what becomes of the next.
struct Fault {
    told: &'static [Then],
    then: Next,
}

#[derive(PartialEq, Eq)]
enum Next {
    /// The runs behind those do what they should.
    Work,
    /// The next one stalls until it is given up, and until it is asked to end.
    Stall,
    /// The next one stalls, given up or not, until it is let go.
    Hang,
}

const fn fault(told: &'static [Then], then: Next) -> Fault {
    Fault { told, then }
}

/// Every fault, with its name.
const FAULTS: &[(&str, Fault)] = &[
    ("none", fault(&[], Next::Work)),
    ("fails", fault(&[Then::Fail], Next::Work)),
    ("fails again", fault(&[Then::Fail; 5], Next::Work)),
    ("no memory", fault(&[Then::NoMemory], Next::Work)),
    ("loses a row", fault(&[Then::LoseRow], Next::Work)),
    ("panics", fault(&[Then::Panic], Next::Work)),
    ("fails, panics", fault(&[Then::Fail, Then::Panic], Next::Work)),
    ("stalls", fault(&[], Next::Stall)),
    ("hangs", fault(&[], Next::Hang)),
    ("fails, hangs", fault(&[Then::Fail], Next::Hang)),
    ("fails, works, hangs", fault(&[Then::Fail, Then::Work], Next::Hang)),
];

/// Lets the batch that waits for the lane begin, and meet the fault, once the run before it ends.
fn meet(model: &mut Model, lane: usize, fault: &Fault) {
    model.go_on(lane, Then::Work);
    for &then in fault.told {
        assert_eq!(model.started().0, lane);
        model.go_on(lane, then);
    }
    match fault.then {
        Next::Work => model.let_go_of(lane),
        Next::Stall | Next::Hang => assert_eq!(model.started().0, lane),
    }
}

/// How many requests the watchdog takes from a lane, which is the only one that it gives up.
fn given_up(model: &Model, lane: usize) -> usize {
    let late = model.watch();
    assert!(late.len() == 1 && late[0].0 == format!("lane-{lane}"), "{late:?}");
    late[0].1
}

/// Waits until all lanes are at work: a run that stalls ends because it is asked to, one that hangs is let go.
fn come_back(model: &mut Model, lanes: usize, fault: &Fault) {
    if fault.then == Next::Stall {
        model.wait_for_lanes(lanes);
    }
    model.let_go();
    model.wait_for_lanes(lanes);
}

/// What was counted, and that nothing is left of it all.
fn counts(mut model: Model) -> String {
    model.let_go();
    let [failed, given_up, lanes] = ["failed_runs", "runs_given_up", "lane_failures"]
        .map(|name| model.count(&format!("thalweg_{name}_total")));
    model.close();
    assert_eq!((model.places.used(), model.memory.used()), (0, 0));
    format!("failed {failed}, given up {given_up}, lanes {lanes}")
}

/// Three requests meet the fault in one batch; one waits behind them, one comes later, and one when all is well again.
fn requests(lanes: usize, fault: &Fault) -> String {
    let setup = Setup { lanes, again: true, heeds_halt: fault.then == Next::Stall, ..Setup::default() };
    let mut model = setup.start();
    let [mut busy, mut batch, mut behind, mut after] = [(); 4].map(|()| Client::new(8));
    let started: Vec<_> = (0..lanes)
        .map(|_| {
            busy.ask_rows(&model, &[0]);
            model.started().0
        })
        .collect();
    let (lane, other) = (started[0], started.get(1));
    for value in [1, 2, 3] {
        batch.ask_rows(&model, &[value]);
    }
    // Rows of another length run by themselves.
    behind.ask_wide(&model, [4, 4]);
    meet(&mut model, lane, fault);
    let mut told = String::new();
    if let Some(&other) = other {
        model.let_go_of(other);
        told += &format!("behind {}; ", behind.answers(1));
    }
    assert_eq!(busy.answers(lanes).matches("[0]").count(), lanes);
    if fault.then != Next::Work {
        told += &format!("given up {}, ", given_up(&model, lane));
    }
    told += &batch.answers(3);
    if lanes == 1 {
        told += &format!("; behind {}", behind.answers(1));
    }
    if fault.then == Next::Hang {
        // A run that nobody waits for takes no core from the sockets.
        assert!(lanes > 1 || model.cores.computing() == 0);
        let is_open = model.producers[0].is_open();
        after.ask_rows(&model, &[5]);
        told += &format!("; up {}, open {is_open}, {}", model.up(), after.answers(1));
    }
    come_back(&mut model, lanes, fault);
    assert!(model.watch().is_empty() && model.producers[0].is_open());
    after.ask_rows(&model, &[6]);
    told += &format!("; after {}", after.answers(1));
    assert!([busy, batch, behind, after].iter().all(|client| client.poll().is_empty()), "answered twice");
    format!("{told}; {}", counts(model))
}

/// The second steps of three streams meet the fault in one batch; each then makes a third step, and begins anew.
fn steps(lanes: usize, fault: &Fault) -> String {
    let heeds_halt = fault.then == Next::Stall;
    let mut model = Setup { lanes, again: true, state: true, heeds_halt, ..Setup::default() }.start();
    let [mut busy, mut client, mut other] = [(); 3].map(|()| Client::new(16));
    client.ask_steps(&model, 0, &[(0, false, 1)]);
    assert_eq!(model.started(), (0, vec![1]));
    client.ask_steps(&model, 0, &[(1, false, 2), (2, false, 3)]);
    model.go_on(0, Then::Work);
    model.started();
    busy.ask_steps(&model, 0, &[(3, false, 0)]);
    model.go_on(0, Then::Work);
    model.started();
    assert_eq!(client.answers(3), "0: [1], 1: [2], 2: [3]");
    client.ask_steps(&model, 0, &[(0, true, 10), (1, true, 10), (2, true, 10)]);
    meet(&mut model, 0, fault);
    let mut told = String::new();
    if fault.then != Next::Work {
        told += &format!("given up {}, ", given_up(&model, 0));
    }
    told += &client.answers(3);
    if lanes > 1 {
        // What happens to one lane is nothing to the streams of another.
        model.let_go_of(1);
        other.ask_steps(&model, 1, &[(0, false, 7)]);
        told += &format!("; another lane's {}", other.answers(1));
    }
    if fault.then == Next::Hang {
        other.ask_steps(&model, 0, &[(4, false, 7)]);
        told += &format!("; up {}, {}", model.up(), other.answers(1));
    }
    come_back(&mut model, lanes, fault);
    client.ask_steps(&model, 0, &[(0, true, 100), (1, true, 100), (2, true, 100)]);
    told += &format!("; then {}", client.answers(3));
    client.ask_steps(&model, 0, &[(0, false, 5)]);
    told += &format!("; anew {}", client.answers(1));
    assert!([busy, client, other].iter().all(|client| client.poll().len() < 2), "answered twice");
    format!("{told}; {}", counts(model))
}

/// One lane hangs, and the other fails, whether it will be back or not.
#[test]
fn nothing_waits_for_a_lane_that_hangs() {
    for again in [true, false] {
        let setup = Setup { lanes: 2, again, heeds_halt: false, ..Setup::default() };
        let mut model = setup.start();
        let [mut hanging, mut failing, mut behind] = [(); 3].map(|()| Client::new(8));
        hanging.ask_rows(&model, &[1]);
        let (lane, _) = model.started();
        assert_eq!(model.watch().len(), 1);
        failing.ask_rows(&model, &[2]);
        assert_eq!(model.started(), (1 - lane, vec![2]));
        behind.ask_rows(&model, &[3]);
        model.go_on(1 - lane, Then::Panic);
        assert_eq!(failing.answers(1), "0: internal");
        assert_eq!(behind.answers(1), "0: model_not_ready");
        assert_eq!(hanging.answers(1), "0: run_timed_out");
        model.let_go();
        if again {
            model.wait_for_lanes(2);
            behind.ask_rows(&model, &[4]);
            assert_eq!(behind.answers(1), "1: [8]");
        }
        assert_eq!(counts(model), "failed 0, given up 1, lanes 2");
    }
}

fn check(scene: fn(usize, &Fault) -> String, lanes: usize, expect: Expect) {
    let told = FAULTS.iter().map(|(name, fault)| format!("{name}: {}\n", scene(lanes, fault)));
    expect.assert_eq(&told.collect::<String>());
}

#[test]
fn a_batch_in_the_only_lane() {
    check(
        requests,
        1,
        expect![[r#"
        none: 0: [2], 1: [4], 2: [6]; behind 0: [8, 8]; after 0: [12]; failed 0, given up 0, lanes 0
        fails: 0: [2], 1: [4], 2: [6]; behind 0: [8, 8]; after 0: [12]; failed 1, given up 0, lanes 0
        fails again: 0: inference_failed, 1: inference_failed, 2: inference_failed; behind 0: [8, 8]; after 0: [12]; failed 5, given up 0, lanes 0
        no memory: 0: [2], 1: [4], 2: [6]; behind 0: [8, 8]; after 0: [12]; failed 1, given up 0, lanes 0
        loses a row: 0: [2], 1: [4], 2: [6]; behind 0: [8, 8]; after 0: [12]; failed 1, given up 0, lanes 0
        panics: 0: internal, 1: internal, 2: internal; behind 0: [8, 8]; after 0: [12]; failed 0, given up 0, lanes 1
        fails, panics: 0: internal, 1: internal, 2: internal; behind 0: [8, 8]; after 0: [12]; failed 1, given up 0, lanes 1
        stalls: given up 3, 0: run_timed_out, 1: run_timed_out, 2: run_timed_out; behind 0: model_not_ready; after 0: [12]; failed 0, given up 1, lanes 1
        hangs: given up 3, 0: run_timed_out, 1: run_timed_out, 2: run_timed_out; behind 0: model_not_ready; up 0, open false, 0: model_not_ready; after 1: [12]; failed 0, given up 1, lanes 1
        fails, hangs: given up 3, 0: run_timed_out, 1: run_timed_out, 2: run_timed_out; behind 0: model_not_ready; up 0, open false, 0: model_not_ready; after 1: [12]; failed 1, given up 1, lanes 1
        fails, works, hangs: given up 2, 0: [2], 1: run_timed_out, 2: run_timed_out; behind 0: model_not_ready; up 0, open false, 0: model_not_ready; after 1: [12]; failed 1, given up 1, lanes 1
    "#]],
    );
}

#[test]
fn a_batch_in_one_of_two_lanes() {
    check(
        requests,
        2,
        expect![[r#"
        none: behind 0: [8, 8]; 0: [2], 1: [4], 2: [6]; after 0: [12]; failed 0, given up 0, lanes 0
        fails: behind 0: [8, 8]; 0: [2], 1: [4], 2: [6]; after 0: [12]; failed 1, given up 0, lanes 0
        fails again: behind 0: [8, 8]; 0: inference_failed, 1: inference_failed, 2: inference_failed; after 0: [12]; failed 5, given up 0, lanes 0
        no memory: behind 0: [8, 8]; 0: [2], 1: [4], 2: [6]; after 0: [12]; failed 1, given up 0, lanes 0
        loses a row: behind 0: [8, 8]; 0: [2], 1: [4], 2: [6]; after 0: [12]; failed 1, given up 0, lanes 0
        panics: behind 0: [8, 8]; 0: internal, 1: internal, 2: internal; after 0: [12]; failed 0, given up 0, lanes 1
        fails, panics: behind 0: [8, 8]; 0: internal, 1: internal, 2: internal; after 0: [12]; failed 1, given up 0, lanes 1
        stalls: behind 0: [8, 8]; given up 3, 0: run_timed_out, 1: run_timed_out, 2: run_timed_out; after 0: [12]; failed 0, given up 1, lanes 1
        hangs: behind 0: [8, 8]; given up 3, 0: run_timed_out, 1: run_timed_out, 2: run_timed_out; up 1, open true, 0: [10]; after 1: [12]; failed 0, given up 1, lanes 1
        fails, hangs: behind 0: [8, 8]; given up 3, 0: run_timed_out, 1: run_timed_out, 2: run_timed_out; up 1, open true, 0: [10]; after 1: [12]; failed 1, given up 1, lanes 1
        fails, works, hangs: behind 0: [8, 8]; given up 2, 0: [2], 1: run_timed_out, 2: run_timed_out; up 1, open true, 0: [10]; after 1: [12]; failed 1, given up 1, lanes 1
    "#]],
    );
}

#[test]
fn steps_in_the_only_lane() {
    check(
        steps,
        1,
        expect![[r#"
        none: 3: [11], 4: [12], 5: [13]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 0, given up 0, lanes 0
        fails: 3: [11], 4: [12], 5: [13]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 1, given up 0, lanes 0
        fails again: 3: inference_failed, 4: inference_failed, 5: inference_failed; then 6: [101], 7: [102], 8: [103]; anew 9: [5]; failed 5, given up 0, lanes 0
        no memory: 3: [11], 4: [12], 5: [13]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 1, given up 0, lanes 0
        loses a row: 3: [11], 4: [12], 5: [13]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 1, given up 0, lanes 0
        panics: 3: internal, 4: internal, 5: internal; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 0, given up 0, lanes 1
        fails, panics: 3: internal, 4: internal, 5: internal; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 1, given up 0, lanes 1
        stalls: given up 3, 3: run_timed_out, 4: run_timed_out, 5: run_timed_out; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 0, given up 1, lanes 1
        hangs: given up 3, 3: run_timed_out, 4: run_timed_out, 5: run_timed_out; up 0, 0: model_not_ready; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 0, given up 1, lanes 1
        fails, hangs: given up 3, 3: run_timed_out, 4: run_timed_out, 5: run_timed_out; up 0, 0: model_not_ready; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 1, given up 1, lanes 1
        fails, works, hangs: given up 2, 3: [11], 4: run_timed_out, 5: run_timed_out; up 0, 0: model_not_ready; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 1, given up 1, lanes 1
    "#]],
    );
}

#[test]
fn steps_in_one_of_two_lanes() {
    check(
        steps,
        2,
        expect![[r#"
        none: 3: [11], 4: [12], 5: [13]; another lane's 0: [7]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 0, given up 0, lanes 0
        fails: 3: [11], 4: [12], 5: [13]; another lane's 0: [7]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 1, given up 0, lanes 0
        fails again: 3: inference_failed, 4: inference_failed, 5: inference_failed; another lane's 0: [7]; then 6: [101], 7: [102], 8: [103]; anew 9: [5]; failed 5, given up 0, lanes 0
        no memory: 3: [11], 4: [12], 5: [13]; another lane's 0: [7]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 1, given up 0, lanes 0
        loses a row: 3: [11], 4: [12], 5: [13]; another lane's 0: [7]; then 6: [111], 7: [112], 8: [113]; anew 9: [5]; failed 1, given up 0, lanes 0
        panics: 3: internal, 4: internal, 5: internal; another lane's 0: [7]; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 0, given up 0, lanes 1
        fails, panics: 3: internal, 4: internal, 5: internal; another lane's 0: [7]; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 1, given up 0, lanes 1
        stalls: given up 3, 3: run_timed_out, 4: run_timed_out, 5: run_timed_out; another lane's 0: [7]; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 0, given up 1, lanes 1
        hangs: given up 3, 3: run_timed_out, 4: run_timed_out, 5: run_timed_out; another lane's 0: [7]; up 1, 1: model_not_ready; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 0, given up 1, lanes 1
        fails, hangs: given up 3, 3: run_timed_out, 4: run_timed_out, 5: run_timed_out; another lane's 0: [7]; up 1, 1: model_not_ready; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 1, given up 1, lanes 1
        fails, works, hangs: given up 2, 3: [11], 4: run_timed_out, 5: run_timed_out; another lane's 0: [7]; up 1, 1: model_not_ready; then 6: state_lost, 7: state_lost, 8: state_lost; anew 9: [5]; failed 1, given up 1, lanes 1
    "#]],
    );
}
