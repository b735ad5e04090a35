//! Models that are cut, changed, or made to do harm.

use super::super::model::control_flow;
use super::super::model::external;
use super::super::model::number::*;
use super::super::wire::Damaged;
use super::super::{fix, gemm, shapes, tensor};
use super::{constant, integers, message, model, node, ports};
use crate::engine::Graph;
use crate::tensor::DataType;

/// All that is done with a file.
fn everything(model: &[u8]) -> Result<usize, Damaged> {
    let sizes = Graph { inputs: ports("x[2,8] k[]"), outputs: ports("y[2,8]") };
    let constants = [constant("k", DataType::Int64, &[], &[0; 8])];
    control_flow(model)?;
    external(model)?;
    let fixed = fix::fix(model, &sizes, &constants)?;
    let asked = shapes::with_outputs(&fixed, &shapes::asked(&fixed)?)?;
    let answered = shapes::answered(&fixed, &sizes)?.unwrap_or_default();
    gemm::asked(model)?;
    let lowered = gemm::lowered(model, &Graph { inputs: ports("c[?,1,4]"), outputs: Vec::new() })?;
    // Each node of a product takes some bytes, and each weight, whatever else the file says.
    assert!(lowered.is_none_or(|lowered| lowered.len() < model.len() + 1000));
    Ok(fixed.len().max(asked.len()).max(answered.len()))
}

fn sample() -> Vec<u8> {
    let nodes =
        "Shape x -> s | Gather s last -> n | Size x -> e | {Shape q -> r;{Add a b -> c}If r -> t}If e -> y";
    let nodes = format!("{nodes} | Conv pads=1,1 c w -> d");
    let weights = tensor::write("w", DataType::Fp32, &[1, 1, 2], &[0; 8]).unwrap();
    let constants = [integers("last", &[-1]), integers("k", &[1]), weights];
    model("x[batch,time] k[]", "y[batch,time]", &nodes, &constants)
}

#[test]
fn files_that_are_cut_are_damaged() {
    let sample = sample();
    assert!(everything(&sample).is_ok());
    // What comes behind the graph are fields of four and eight bytes.
    let fields_end = [sample.len() - 8, sample.len() - 8 - 4];
    for end in 0..sample.len() {
        assert_eq!(everything(&sample[..end]).is_ok(), fields_end.contains(&end), "{end}");
    }
}

#[test]
fn damaged_files_do_no_harm() {
    let sample = sample();
    let mut sound = 0;
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = sample.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        if let Ok(length) = everything(&bytes) {
            assert!(length < 2 * sample.len(), "seed {seed}");
            sound += 1;
        }
    }
    assert!((1000..19_000).contains(&sound), "{sound}");
}

#[test]
fn graphs_in_graphs_go_only_so_deep() {
    let nested = |depth| {
        let mut inner = node("Add a b -> c");
        for _ in 0..depth {
            let graph = message([(GRAPH_NODE, inner)]);
            inner = message([(NODE_ATTRIBUTE, message([(ATTRIBUTE_GRAPH, graph)]))]);
        }
        message([(MODEL_GRAPH, message([(GRAPH_NODE, inner)]))])
    };
    assert_eq!(control_flow(&nested(63)), Ok(vec![]));
    assert_eq!(control_flow(&nested(64)), Err(Damaged));
    assert_eq!(control_flow(&nested(3000)), Err(Damaged));
}
