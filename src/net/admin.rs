//! What the server tells of itself and its models.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::protocol::{ModelMetadata, ServerMetadata};
use crate::registry::{Registry, Served};
use crate::tensor::{DataType, TensorSpec};

pub fn server_metadata() -> Value {
    json!(ServerMetadata {
        name: "thalweg",
        version: env!("CARGO_PKG_VERSION"),
        extensions: &[
            "classification",
            "sequence",
            "sequence(string_id)",
            "model_configuration",
            "statistics",
            "binary_tensor_data",
        ],
    })
}

pub fn model_metadata(registry: &Registry, served: &Served) -> Value {
    let versions = registry.versions(&served.name);
    json!(ModelMetadata::new(&served.name, &versions, &served.signature))
}

/// The settings a model runs with, in the shape of Triton's model configuration.
pub fn model_config(served: &Served) -> Value {
    let file = &served.file;
    let batching = &file.dynamic_batching;
    let batches = served.signature.max_batch_size > 0;
    let tensors =
        |specs: &[TensorSpec]| -> Vec<_> { specs.iter().map(|spec| tensor_config(spec, batches)).collect() };
    json!({
        "name": served.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": served.signature.max_batch_size,
        "input": tensors(&served.signature.inputs),
        "output": tensors(&served.signature.outputs),
        "instance_group": [{ "kind": "KIND_CPU", "count": file.instances() }],
        "dynamic_batching": {
            "preferred_batch_size": batching.preferred_batch_size,
            "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
            "priority_levels": batching.priority_levels,
            "default_priority_level": batching.default_priority_level,
            "default_queue_policy": {
                "default_timeout_microseconds": batching.default_timeout_microseconds,
                "allow_timeout_override": true,
                "max_queue_size": batching.max_queue_size,
            },
        },
        "parameters": {
            "intra_op_thread_count": { "string_value": file.parameters.intra_op_thread_count.to_string() },
            "inter_op_thread_count": { "string_value": file.parameters.inter_op_thread_count.to_string() },
        },
    })
}

fn tensor_config(spec: &TensorSpec, batches: bool) -> Value {
    let data_type = match spec.datatype {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    };
    let mut dims = spec.wire_shape();
    // Triton leaves the batch dimension out, where it is the first.
    if batches && spec.batch_axis == Some(0) {
        dims.remove(0);
    }
    json!({ "name": spec.name, "data_type": data_type, "dims": dims, "batch_axis": spec.batch_axis })
}

/// Triton's statistics extension.
pub fn model_stats(served: &Arc<Served>) -> Value {
    let stats = served.metrics.statistics();
    let duration = |(count, ns): (u64, u64)| json!({ "count": count, "ns": ns });
    let batches = stats.batches.iter().map(|(size, (count, time))| {
        json!({ "batch_size": size, "compute_infer": { "count": count, "ns": nanos(*time) } })
    });
    let mut told = json!({ "model_stats": [{
        "name": served.name,
        "version": served.version_text,
        "inference_count": stats.rows,
        "execution_count": stats.run.0,
        "inference_stats": {
            "success": duration(stats.success),
            "fail": duration(stats.fail),
            "queue": duration(stats.queue),
            "compute_input": duration(stats.gather),
            "compute_infer": duration(stats.run),
            "compute_output": duration(stats.scatter),
        },
        "batch_stats": batches.collect::<Vec<_>>(),
    }]});
    // What `batch_stats` would be if nothing else were on the machine.
    let expected = served.expected().map(|(size, time)| json!({ "batch_size": size, "ns": nanos(time) }));
    let expected: Vec<_> = expected.collect();
    if !expected.is_empty() {
        told["model_stats"][0]["batch_profile"] = expected.into();
    }
    told
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
