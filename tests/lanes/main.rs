//! Lanes at work between a real queue, batcher and device, with an engine that is told what to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod faults;
mod fixture;
mod flights;
mod random;

use std::time::Duration;

use expect_test::expect;
use fixture::{Ask, Client, Model, PANIC, POISON, Setup, Then};

/// A lane that is busy with the request 0.
fn busy(setup: Setup) -> (Model, Client) {
    let model = setup.start();
    let mut client = Client::new(64);
    client.ask_rows(&model, &[0]);
    assert_eq!(model.started(), (0, vec![0]));
    (model, client)
}

#[test]
fn requests_that_wait_for_a_busy_lane_share_its_next_batches() {
    let (mut model, mut client) = busy(Setup::default());
    for values in [&[1][..], &[2, 3], &[4], &[5, 6, 7], &[8]] {
        client.ask_rows(&model, values);
    }
    assert_eq!(model.step(), [1, 2, 3, 4]);
    assert_eq!(model.step(), [5, 6, 7, 8]);
    model.close();
    expect!["0: [0], 1: [2], 2: [4, 6], 3: [8], 4: [10, 12, 14], 5: [16]"].assert_eq(&client.answers(6));
    assert_eq!(model.batches(), [(1, 1), (4, 2)]);
}

#[test]
fn rows_along_the_second_axis_find_their_way_back() {
    let mut model = Setup { batch_axis: 1, ..Setup::default() }.start();
    let mut client = Client::new(64);
    let mut ask = |rows, values: &[i64]| {
        let ask = Ask { rows, values: values.to_vec(), deadline: None, priority: 0 };
        client.ask(model.producer.as_ref().unwrap(), model.clock.now(), 1, ask);
    };
    ask(1, &[0, 0]);
    assert_eq!(model.started().1, [0, 0]);
    ask(1, &[10, 11]);
    ask(2, &[20, 21, 30, 31]);
    assert_eq!(model.step(), [10, 20, 21, 11, 30, 31]);
    model.let_go();
    expect!["0: [0, 0], 1: [20, 22], 2: [40, 42, 60, 62]"].assert_eq(&client.answers(3));
}

#[test]
fn a_poisonous_request_fails_alone() {
    let (mut model, mut client) = busy(Setup::default());
    for value in [1, 2, POISON, 3] {
        client.ask_rows(&model, &[value]);
    }
    model.let_go();
    expect!["0: [0], 1: [2], 2: [4], 3: inference_failed, 4: [6]"].assert_eq(&client.answers(5));
    model.close();
    assert_eq!(model.count("thalweg_failed_runs_total"), 3, "of four, of two, of one");
    assert_eq!(model.batches(), [(1, 2), (2, 1)]);
}

#[test]
fn an_output_with_other_rows_is_nobodys_answer() {
    let (model, mut client) = busy(Setup::default());
    client.ask_rows(&model, &[1]);
    client.ask_rows(&model, &[2]);
    assert_eq!(model.step(), [1, 2]);
    for rerun in [1, 2] {
        model.go_on(0, Then::LoseRow);
        assert_eq!(model.started().1, [rerun], "each alone");
    }
    model.go_on(0, Then::Work);
    expect!["0: [0], 1: inference_failed, 2: [4]"].assert_eq(&client.answers(3));
    assert_eq!(model.count("thalweg_failed_runs_total"), 2);
}

#[test]
fn the_model_does_not_see_a_request_whose_client_has_left() {
    let (mut model, mut client) = busy(Setup::default());
    let mut leaving = Client::new(64);
    leaving.ask_rows(&model, &[1]);
    client.ask_rows(&model, &[2]);
    assert_eq!(leaving.mailbox.close().collect::<Vec<_>>(), [0]);
    assert_eq!(model.step(), [2]);
    model.let_go();
    expect!["0: [0], 1: [4]"].assert_eq(&client.answers(2));
    assert_eq!(model.count("thalweg_requests_skipped_total"), 1);
}

#[test]
fn the_model_does_not_see_a_request_whose_time_has_passed() {
    let (mut model, mut client) = busy(Setup::default());
    let now = model.clock.now();
    let ask = Ask { rows: 1, values: vec![1], deadline: Some(now), priority: 0 };
    client.ask(model.producer.as_ref().unwrap(), now, 0, ask);
    client.ask_rows(&model, &[2]);
    assert_eq!(model.step(), [2]);
    model.let_go();
    expect!["0: [0], 1: deadline_exceeded, 2: [4]"].assert_eq(&client.answers(3));
}

#[test]
fn a_full_queue_refuses_and_a_batch_that_starts_makes_room() {
    let (model, mut client) = busy(Setup { places: 2, ..Setup::default() });
    for value in [1, 2, 3] {
        client.ask_rows(&model, &[value]);
    }
    assert_eq!(model.step(), [1, 2]);
    client.ask_rows(&model, &[4]);
    assert_eq!(model.step(), [4]);
    model.go_on(0, Then::Work);
    expect!["0: [0], 1: [2], 2: [4], 3: queue_full, 4: [8]"].assert_eq(&client.answers(5));
}

#[test]
fn a_free_lane_takes_what_a_busy_one_cannot() {
    let mut model = Setup { lanes: 2, ..Setup::default() }.start();
    let mut client = Client::new(64);
    client.ask_rows(&model, &[1]);
    let (busy, _) = model.started();
    // Rows of other lengths, so no two share a batch.
    for values in [vec![2], vec![3, 3], vec![4, 4, 4]] {
        let ask = Ask { rows: 1, values: values.clone(), deadline: None, priority: 0 };
        client.ask(model.producer.as_ref().unwrap(), model.clock.now(), 0, ask);
        assert_eq!(model.started(), (1 - busy, values));
        model.go_on(1 - busy, Then::Work);
    }
    model.let_go();
    expect!["0: [2], 1: [4], 2: [6, 6], 3: [8, 8, 8]"].assert_eq(&client.answers(4));
}

#[test]
fn lanes_finish_what_waits_before_they_end() {
    for lanes in [1, 2] {
        // Nobody will wait out this delay: no one can join any more.
        let mut setup = Setup { lanes, guided: false, ..Setup::default() };
        setup.policy.max_queue_delay = Duration::from_secs(3600);
        let mut model = setup.start();
        let mut client = Client::new(64);
        for value in [1, 2, 3, 4, 5, 6] {
            client.ask_rows(&model, &[value]);
        }
        assert_eq!(model.close(), 0);
        expect!["0: [2], 1: [4], 2: [6], 3: [8], 4: [10], 5: [12]"].assert_eq(&client.answers(6));
        assert_eq!((model.places.used(), model.memory.used()), (0, 0));
    }
}

#[test]
fn an_engine_that_panics_leaves_nobody_without_an_answer() {
    let (mut model, mut client) = busy(Setup::default());
    for value in [1, PANIC, 2, 3, 4] {
        client.ask_rows(&model, &[value]);
    }
    let producer = model.producer.clone().unwrap();
    assert_eq!(model.close(), 1, "the lane dies");
    let ask = Ask { rows: 1, values: vec![5], deadline: None, priority: 0 };
    client.ask(&producer, model.clock.now(), 0, ask);
    expect![
        "0: [0], 1: internal, 2: internal, 3: internal, 4: internal, 5: model_not_ready, 6: model_not_ready"
    ]
    .assert_eq(&client.answers(7));
    assert_eq!((model.places.used(), model.memory.used()), (0, 0));
}

#[test]
fn a_lane_works_on_when_another_has_died() {
    let mut model = Setup { lanes: 2, ..Setup::default() }.start();
    let mut client = Client::new(64);
    client.ask_rows(&model, &[PANIC]);
    let (dead, _) = model.started();
    model.go_on(dead, Then::Work);
    for value in [1, 2] {
        client.ask_rows(&model, &[value]);
        assert_eq!(model.started(), (1 - dead, vec![value]));
        model.go_on(1 - dead, Then::Work);
    }
    expect!["0: internal, 1: [2], 2: [4]"].assert_eq(&client.answers(3));
    assert_eq!(model.close(), 1);
}
