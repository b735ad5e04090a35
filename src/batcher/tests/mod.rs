//! Each rule of the policy as a short script.

mod script;

use expect_test::expect;
use script::{check, policy};

use super::*;

#[test]
fn without_a_delay_what_waits_runs_at_once_up_to_the_limit() {
    check(
        policy(4, 0),
        "0 next
         1 push a
         1 next
         2 push b
         2 push c rows=2
         2 push d rows=2
         2 push e
         3 next
         3 next
         3 next",
        expect![[r#"
            0: wait, 0 left
            1: run a, 0 left
            3: run b c, 2 left
            3: run d e, 0 left
            3: wait, 0 left
        "#]],
    );
}

#[test]
fn a_lane_that_wants_full_batches_leaves_the_others_to_grow() {
    check(
        policy(4, 0),
        "0 push a
         0 push b deadline=9
         0 full
         1 push c rows=3
         1 full
         2 full
         9 push d deadline=20
         9 full
         9 next",
        expect![[r#"
            0: wait until 9, 2 left
            1: run a b, 1 left
            2: wait until 9, 1 left
            9: run c d, 0 left
            9: wait, 0 left
        "#]],
    );
}

#[test]
fn with_a_delay_a_batch_waits_until_it_is_full_or_its_oldest_is_due() {
    check(
        policy(4, 10),
        "0 push a
         0 next
         5 push b rows=2
         5 next
         9 next
         10 next
         20 push c rows=3
         20 next
         21 push d rows=2
         21 next
         21 next
         22 push e rows=2
         22 next",
        expect![[r#"
            0: wait until 10, 1 left
            5: wait until 10, 2 left
            9: wait until 10, 2 left
            10: run a b, 0 left
            20: wait until 30, 1 left
            21: run c, 1 left
            21: wait until 31, 1 left
            22: run d e, 0 left
        "#]],
    );
}

#[test]
fn groups_do_not_mix_and_the_oldest_ready_one_runs() {
    check(
        policy(2, 10),
        "0 push a key=9
         1 push b key=5
         2 push c key=7
         3 push d key=5
         3 next
         3 next
         12 next
         12 next
         12 next",
        expect![[r#"
            3: run b d, 2 left
            3: wait until 10, 2 left
            12: run a, 1 left
            12: run c, 0 left
            12: wait, 0 left
        "#]],
    );
}

#[test]
fn the_urgent_level_leads_and_the_others_fill_its_batch() {
    check(
        policy(4, 0),
        "0 push a level=2
         1 push b level=1
         2 push c level=9
         3 push d key=1 level=2
         4 push e level=0
         5 push f level=0
         5 next
         5 next
         5 next",
        expect![[r#"
            5: run e f b a, 2 left
            5: run c, 1 left
            5: run d, 0 left
        "#]],
    );
}

#[test]
fn level_goes_before_age_and_a_due_follower_takes_its_group_along() {
    check(
        policy(4, 10),
        "0 push a key=1 level=1
         8 push b key=2 level=0
         9 push c key=1 level=0
         9 next
         10 next
         18 push d key=3 level=1
         18 next
         28 push e key=4 level=0 rows=4
         28 next
         28 next",
        expect![[r#"
            9: wait until 10, 3 left
            10: run c a, 1 left
            18: run b, 1 left
            28: run e, 1 left
            28: run d, 0 left
        "#]],
    );
}

#[test]
fn nobody_is_overtaken_because_he_is_large() {
    check(
        policy(4, 0),
        "0 push a rows=3
         0 push b rows=2
         0 push c rows=1
         0 push d rows=1 level=1
         0 next
         0 next",
        expect![[r#"
            0: run a, 3 left
            0: run b c d, 0 left
        "#]],
    );
}

#[test]
fn the_largest_preferred_size_runs_at_once_if_it_can_be_met_exactly() {
    let preferring = |sizes: &[usize]| Policy { preferred_batch_size: sizes.to_vec(), ..policy(8, 10) };
    check(
        preferring(&[2, 4, 99]),
        "0 push a
         0 next
         1 push b
         1 push c
         1 push d
         1 push e
         1 next
         1 next
         2 push f rows=2
         2 push g rows=6
         2 next
         2 next",
        expect![[r#"
            0: wait until 10, 1 left
            1: run a b c d, 1 left
            1: wait until 11, 1 left
            2: run e f, 1 left
            2: wait until 12, 1 left
        "#]],
    );
    // Once due, all go that fit.
    check(
        preferring(&[2]),
        "0 push a
         0 push b
         0 push c
         10 next",
        expect![[r#"
            10: run a b c, 0 left
        "#]],
    );
    // A full batch is preferred, too, but a preferred size goes before one that is merely as full as can be.
    check(
        preferring(&[4]),
        "0 push a rows=4
         0 push b rows=4
         0 next
         1 push c rows=4
         1 push d rows=3
         1 push e rows=2
         1 next
         1 next",
        expect![[r#"
            0: run a b, 0 left
            1: run c, 2 left
            1: wait until 11, 2 left
        "#]],
    );
}

#[test]
fn the_expired_are_told_in_time_and_never_run() {
    check(
        policy(4, 10),
        "0 push a deadline=6
         0 push b
         1 push c deadline=4 key=1
         1 next
         4 next
         5 push d deadline=5
         5 next
         7 next
         10 next",
        expect![[r#"
            1: wait until 4, 3 left
            4: c is Expired, wait until 6, 2 left
            5: d is Expired, wait until 6, 2 left
            7: a is Expired, wait until 10, 1 left
            10: run b, 0 left
        "#]],
    );
    // Those behind the batch are told, too; and the deadline of one that has run is forgotten with time.
    check(
        policy(1, 0),
        "0 push a
         0 push b deadline=3
         0 push c deadline=9
         3 next
         3 next
         3 next",
        expect![[r#"
            3: b is Expired, run a, 1 left
            3: run c, 0 left
            3: wait, 0 left
        "#]],
    );
}

#[test]
fn the_gone_make_room() {
    check(
        policy(2, 0),
        "0 push a
         0 push b
         0 push c
         0 push d
         0 push e
         1 gone a
         1 gone c
         1 gone e
         1 next
         1 next",
        expect![[r#"
            1: c is Gone, a is Gone, run b d, 1 left
            1: e is Gone, wait, 0 left
        "#]],
    );
    // A group that was full only with them waits on, and a less urgent one may run.
    check(
        policy(2, 10),
        "0 push a key=1
         1 push b key=2
         1 push c key=2
         2 push d key=1
         2 gone d
         2 next
         2 next
         10 next",
        expect![[r#"
            2: d is Gone, run b c, 1 left
            2: wait until 10, 1 left
            10: run a, 0 left
        "#]],
    );
}

#[test]
fn draining_gives_all_back_once() {
    check(
        policy(2, 10),
        "0 push a key=2 deadline=1
         0 push b key=1 level=1
         0 push c key=1
         0 drain
         5 next
         5 push d
         5 next",
        expect![[r#"
            0: drain c b a
            5: wait, 0 left
            5: wait until 15, 1 left
        "#]],
    );
}
