//! Steps, controls and their order.

use std::fmt::Write;
use std::time::Duration;

use expect_test::{Expect, expect};
use fastwebsockets::OpCode;

use super::{Keepalive, Patience, Phase, Talk};
use crate::error::Code;

/// Does what the script says, and tells what comes of each step. `run` has the lane answer what waits for it, `fail`
/// and `lose` have it refuse that, because it failed or has no state for it any more,
/// `drain` and `end` are phases of the server's end,
/// `!` sends a control message, `ping` a ping, `leave` ends the pipe, and anything else is signal.
async fn check(window: usize, script: &[&str], expect: Expect) {
    let keepalive = Keepalive { interval: Duration::ZERO, idle: Duration::ZERO };
    let mut talk = Talk::start(window, keepalive, Patience::default());
    let mut told = String::new();
    for &step in script {
        writeln!(told, "{step}").unwrap();
        match step {
            "run" => writeln!(told, "  {}", talk.run_lane(None)).unwrap(),
            "fail" => writeln!(told, "  {}", talk.run_lane(Some(Code::Internal))).unwrap(),
            "lose" => writeln!(told, "  {}", talk.run_lane(Some(Code::StateLost))).unwrap(),
            "drain" => drop(talk.phase.send_replace(Phase::Draining(Duration::from_secs(55)))),
            "end" => drop(talk.phase.send_replace(Phase::Closing)),
            "ping" => talk.client.send(OpCode::Ping, b"?").await,
            "leave" => {
                drop(std::mem::replace(&mut talk.client.pipe, tokio::io::duplex(1).0));
                let code = (&mut talk.serving).await.unwrap();
                writeln!(told, "  ended {code}, {} open", talk.streams.open_count()).unwrap();
            }
            step => match step.strip_prefix('!') {
                Some(control) => {
                    talk.client.send(OpCode::Text, format!(r#"{{"type":"{control}"}}"#).as_bytes()).await;
                }
                None => talk.client.send(OpCode::Binary, step.as_bytes()).await,
            },
        }
        for message in talk.client.come().await {
            writeln!(told, "  {message}").unwrap();
        }
    }
    expect.assert_eq(&told);
}

#[tokio::test]
async fn one_step_is_in_flight_and_the_others_wait_in_order() {
    let expect = expect![[r#"
        abcdefg
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
        h
        run
          lane: cd#1
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":4.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,100]}]}
        run
          lane: ef#1
          {"type":"result","seq":2,"start_ms":4.0,"end_ms":6.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[101,102]}]}
        run
          lane: gh#1
          {"type":"result","seq":3,"start_ms":6.0,"end_ms":8.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[103,104]}]}
        run
          lane:
        leave
          ended 1006, 0 open
    "#]];
    check(8, &["abcdefg", "run", "h", "run", "run", "run", "run", "leave"], expect).await;
}

#[tokio::test]
async fn a_long_stream_goes_on_as_its_answers_are_taken() {
    let keepalive = Keepalive { interval: Duration::ZERO, idle: Duration::ZERO };
    let mut talk = Talk::start(128, keepalive, Patience::default());
    talk.client.send(OpCode::Binary, &[b'x'; 80]).await;
    let mut answers = talk.client.come().await;
    for _ in 0..40 {
        talk.run_lane(None);
        answers.extend(talk.client.come().await);
    }
    talk.client.send(OpCode::Text, br#"{"type":"flush"}"#).await;
    answers.extend(talk.client.come().await);
    assert_eq!(answers.len(), 41, "{answers:?}");
}

#[tokio::test]
async fn a_flood_fills_the_window_and_is_read_no_further() {
    let expect = expect![[r#"
        abcdefgh
        ping
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
        run
          lane: cd#1
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":4.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,100]}]}
        run
          lane: ef#1
          {"type":"result","seq":2,"start_ms":4.0,"end_ms":6.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[101,102]}]}
          pong ?
        run
          lane: gh#1
          {"type":"result","seq":3,"start_ms":6.0,"end_ms":8.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[103,104]}]}
    "#]];
    check(2, &["abcdefgh", "ping", "run", "run", "run", "run"], expect).await;
}

#[tokio::test]
async fn a_flush_runs_the_rest_and_is_told_behind_it() {
    let expect = expect![[r#"
        abc
        !flush
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
        run
          lane: c\xff#1
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":3.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,255]}]}
          {"type":"flushed"}
        !flush
          {"type":"flushed"}
        de
        run
          lane: de#1
          {"type":"result","seq":2,"start_ms":4.0,"end_ms":6.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[100,101]}]}
    "#]];
    check(8, &["abc", "!flush", "run", "run", "!flush", "de", "run"], expect).await;
}

#[tokio::test]
async fn a_reset_begins_anew_behind_what_came_before() {
    let expect = expect![[r#"
        abcde
        !reset
        fg
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
        run
          lane: cd#1
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":4.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,100]}]}
          {"type":"reset"}
        run
          lane: fg#2 anew
          {"type":"result","seq":2,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[102,103]}]}
        run
          lane:
    "#]];
    check(8, &["abcde", "!reset", "fg", "run", "run", "run", "run"], expect).await;
}

#[tokio::test]
async fn a_stream_whose_state_is_lost_is_told_and_begins_anew() {
    check(8, &["abcdefgh", "fail", "ij", "run", "fail", "lose", "run"], expect![[r#"
        abcdefgh
        fail
          lane: ab#1 anew
          {"type":"error","error":"the lane refuses","code":"internal","retryable":false}
        ij
        run
          lane: cd#1 anew
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":4.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,100]}]}
        fail
          lane: ef#1
          {"type":"error","error":"the lane refuses","code":"internal","retryable":false}
        lose
          lane: gh#1
          {"type":"error","error":"the lane refuses","code":"state_lost","retryable":false}
        run
          lane: ij#1 anew
          {"type":"result","seq":4,"start_ms":8.0,"end_ms":10.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[105,106]}]}
    "#]]).await;
}

#[tokio::test]
async fn a_stream_may_go_on_until_the_end_and_is_owed_nothing_then() {
    check(2, &["ab", "drain", "run", "cdefgh", "end", "ij", "run", "run", "run"], expect![[r#"
        ab
        drain
          {"type":"going_away","time_left_ms":55000}
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
        cdefgh
        end
        ij
        run
          lane: cd#1
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":4.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,100]}]}
        run
          lane: ef#1
          {"type":"result","seq":2,"start_ms":4.0,"end_ms":6.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[101,102]}]}
        run
          lane: gh#1
          {"type":"result","seq":3,"start_ms":6.0,"end_ms":8.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[103,104]}]}
          close 1001 the server is closing
    "#]]).await;
    check(8, &["abc", "end", "run"], expect![[r#"
        abc
        end
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
          close 1001 the server is closing
    "#]]).await;
}

#[tokio::test]
async fn a_close_answers_all_that_is_owed_first() {
    let expect = expect![[r#"
        abc
        !close
        de
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
        run
          lane: c\xff#1
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":3.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,255]}]}
          {"type":"flushed"}
          close 1000
        leave
          ended 1000, 0 open
    "#]];
    check(8, &["abc", "!close", "de", "run", "run", "leave"], expect).await;
}

#[tokio::test]
async fn an_unknown_control_is_refused_in_its_turn() {
    let expect = expect![[r#"
        ab
        !sing
        cd
        run
          lane: ab#1 anew
          {"type":"result","seq":0,"start_ms":0.0,"end_ms":2.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[97,98]}]}
          {"type":"error","error":"a text message is {\"type\":\"flush\"}, {\"type\":\"reset\"} or {\"type\":\"close\"}","code":"unknown_control","retryable":false}
        run
          lane: cd#1
          {"type":"result","seq":1,"start_ms":2.0,"end_ms":4.0,"outputs":[{"name":"y","datatype":"UINT8","shape":[1,2],"data":[99,100]}]}
    "#]];
    check(8, &["ab", "!sing", "cd", "run", "run"], expect).await;
}

#[tokio::test]
async fn whoever_leaves_gives_the_slot_back_with_steps_in_flight() {
    let expect = expect![[r#"
        abcdef
        leave
          ended 1006, 0 open
        run
          lane: ab#1 anew
    "#]];
    check(8, &["abcdef", "leave", "run"], expect).await;
}
