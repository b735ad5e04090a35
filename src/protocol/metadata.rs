//! What the server and its models say of themselves.

use serde::Serialize;

use crate::tensor::{Signature, TensorSpec};

/// The answer at `/v2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerMetadata<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub extensions: &'a [&'a str],
}

/// The answer at `/v2/models/M`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelMetadata<'a> {
    pub name: &'a str,
    pub versions: &'a [String],
    pub platform: &'static str,
    pub inputs: Vec<TensorMetadata<'a>>,
    pub outputs: Vec<TensorMetadata<'a>>,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorMetadata<'a> {
    pub name: &'a str,
    pub datatype: &'static str,
    /// -1 is any size.
    pub shape: Vec<i64>,
}

impl<'a> ModelMetadata<'a> {
    pub fn new(name: &'a str, versions: &'a [String], signature: &'a Signature) -> Self {
        let tensors = |specs: &'a [TensorSpec]| specs.iter().map(TensorMetadata::new).collect();
        Self {
            name,
            versions,
            platform: "onnxruntime_onnx",
            inputs: tensors(&signature.inputs),
            outputs: tensors(&signature.outputs),
        }
    }
}

impl<'a> TensorMetadata<'a> {
    fn new(spec: &'a TensorSpec) -> Self {
        Self { name: &spec.name, datatype: spec.datatype.as_str(), shape: spec.wire_shape() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DataType, Dim};
    use expect_test::expect;

    #[test]
    fn a_model_shows_its_tensors() {
        let spec = |name: &str, dims: &[Dim]| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            dims: dims.to_vec(),
            batch_axis: Some(0),
        };
        let signature = Signature {
            inputs: vec![spec("audio", &[Dim::Dynamic, Dim::Fixed(576)])],
            outputs: vec![spec("speech", &[Dim::Dynamic, Dim::Fixed(1)])],
            states: vec![],
            max_batch_size: 8,
        };
        let versions = ["1".to_owned(), "2".to_owned()];
        let metadata = ModelMetadata::new("silero", &versions, &signature);
        expect![[r#"{"name":"silero","versions":["1","2"],"platform":"onnxruntime_onnx","inputs":[{"name":"audio","datatype":"FP32","shape":[-1,576]}],"outputs":[{"name":"speech","datatype":"FP32","shape":[-1,1]}]}"#]]
        .assert_eq(&serde_json::to_string(&metadata).unwrap());
    }

    #[test]
    fn the_server_shows_its_extensions() {
        let metadata = ServerMetadata { name: "thalweg", version: "0", extensions: &["binary_tensor_data"] };
        expect![[r#"{"name":"thalweg","version":"0","extensions":["binary_tensor_data"]}"#]]
            .assert_eq(&serde_json::to_string(&metadata).unwrap());
    }
}
