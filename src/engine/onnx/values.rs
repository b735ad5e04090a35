//! Our tensors as ONNX Runtime's values, and back, without a copy.

use ort::session::SessionInputValue;
use ort::value::{DynTensor, DynTensorValueType, DynValue, Tensor, TensorElementType, TensorRef};

use super::{one_line, strings};
use crate::device::TensorView;
use crate::error::{Code, Error, Result};
use crate::tensor::{Column, DataType, Shape, Storage};

pub(super) fn datatype(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

pub(super) fn element_type(datatype: DataType) -> TensorElementType {
    match datatype {
        DataType::Bool => TensorElementType::Bool,
        DataType::Uint8 => TensorElementType::Uint8,
        DataType::Uint16 => TensorElementType::Uint16,
        DataType::Uint32 => TensorElementType::Uint32,
        DataType::Uint64 => TensorElementType::Uint64,
        DataType::Int8 => TensorElementType::Int8,
        DataType::Int16 => TensorElementType::Int16,
        DataType::Int32 => TensorElementType::Int32,
        DataType::Int64 => TensorElementType::Int64,
        DataType::Fp16 => TensorElementType::Float16,
        DataType::Fp32 => TensorElementType::Float32,
        DataType::Fp64 => TensorElementType::Float64,
        DataType::Bf16 => TensorElementType::Bfloat16,
        DataType::Bytes => TensorElementType::String,
    }
}

pub(super) fn internal(error: &ort::Error) -> Error {
    Error::new(Code::Internal, one_line(error))
}

/// Runs `$typed!(T)` with the Rust type of a datatype, and `$strings` for `BYTES`.
macro_rules! by_datatype {
    ($datatype:expr, $typed:ident, $strings:expr) => {
        match $datatype {
            DataType::Bool => $typed!(bool),
            DataType::Uint8 => $typed!(u8),
            DataType::Uint16 => $typed!(u16),
            DataType::Uint32 => $typed!(u32),
            DataType::Uint64 => $typed!(u64),
            DataType::Int8 => $typed!(i8),
            DataType::Int16 => $typed!(i16),
            DataType::Int32 => $typed!(i32),
            DataType::Int64 => $typed!(i64),
            DataType::Fp16 => $typed!(half::f16),
            DataType::Fp32 => $typed!(f32),
            DataType::Fp64 => $typed!(f64),
            DataType::Bf16 => $typed!(half::bf16),
            DataType::Bytes => $strings,
        }
    };
}

/// A value that reads the view's bytes where they lie (strings are copied).
pub(super) fn borrowed<'a>(view: &TensorView<'a>) -> Result<SessionInputValue<'a>> {
    let shape = view.shape.to_vec();
    macro_rules! typed {
        ($type:ty) => {{
            let data = bytemuck::checked::try_cast_slice::<u8, $type>(view.data).map_err(malformed)?;
            TensorRef::from_array_view((shape, data)).map_err(|error| internal(&error))?.into()
        }};
    }
    Ok(by_datatype!(view.datatype, typed, strings::tensor(&shape, view.data)?.into()))
}

/// A value with elements of its own.
pub(super) fn owned(view: &TensorView<'_>) -> Result<DynValue> {
    let shape = view.shape.to_vec();
    macro_rules! typed {
        ($type:ty) => {{
            let unaligned = view.data.chunks_exact(size_of::<$type>());
            let element =
                |bytes| bytemuck::checked::try_pod_read_unaligned::<$type>(bytes).map_err(malformed);
            let data = unaligned.map(element).collect::<Result<Vec<_>>>()?;
            Tensor::from_array((shape, data)).map_err(|error| internal(&error))?.into_dyn()
        }};
    }
    Ok(by_datatype!(view.datatype, typed, strings::tensor(&shape, view.data)?))
}

fn malformed(error: bytemuck::checked::CheckedCastError) -> Error {
    Error::new(Code::Internal, format!("a tensor is malformed: {error}"))
}

/// An output tensor, which stays in ONNX Runtime's memory until the last answer is written.
pub(super) fn column(name: &str, value: DynValue, batch_axis: Option<usize>) -> Result<Column> {
    let unsupported =
        || Error::new(Code::InferenceFailed, format!("output '{name}' is no tensor the protocol can carry"));
    let mut value = value.downcast::<DynTensorValueType>().map_err(|_| unsupported())?;
    let datatype = datatype(*value.data_type()).ok_or_else(unsupported)?;
    let shape: Shape = value.shape().iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    let storage = match datatype.size() {
        None => strings::content(&mut value, shape.iter().product())?,
        Some(size) => {
            let bytes = shape.iter().product::<usize>() * size;
            Storage::Fixed(Box::new(HostTensor { data: value.data_ptr().cast(), bytes, _value: value }))
        }
    };
    Column::new(datatype, shape, batch_axis, storage).ok_or_else(unsupported)
}

/// The bytes of a tensor that ONNX Runtime allocated.
struct HostTensor {
    data: *const u8,
    bytes: usize,
    _value: DynTensor,
}

// SAFETY: `data` points into `_value`, which is itself `Send` and `Sync`, and is only read.
unsafe impl Send for HostTensor {}
// SAFETY: as above.
unsafe impl Sync for HostTensor {}

impl AsRef<[u8]> for HostTensor {
    fn as_ref(&self) -> &[u8] {
        if self.data.is_null() || self.bytes == 0 {
            return &[];
        }
        // SAFETY: the tensor is a CPU session's output, so its memory is the host's; it holds the product of
        // its dimensions times the element size, which is `bytes`; nobody writes to it after the run; and it
        // lives as long as `_value`, hence as `self`.
        unsafe { std::slice::from_raw_parts(self.data, self.bytes) }
    }
}
