//! Binary answers of one layout: the same outputs in the same shapes.
//!
//! Such answers have the same header, but for the `id`, and a connection keeps it.

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::response::{OutputView, ResponseHead, encode_binary, id, model, outputs};
use crate::error::Result;
use crate::tensor::{DataType, Shape};

/// Answers in a row that are laid out anew, before a connection is one whose answers differ. Its headers are not kept.
const MOST: u8 = 4;

/// A connection's binary answers, all of one model.
#[derive(Default)]
pub struct Layouts {
    last: Option<Box<Layout>>,
    misses: u8,
}

impl Layouts {
    /// Appends an answer as [`encode_binary`] does.
    pub fn encode(
        &mut self,
        out: &mut BytesMut,
        head: &ResponseHead<'_>,
        views: &[OutputView<'_>],
    ) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| last.encode(out, head, views)) {
            self.misses = 0;
            return Ok(());
        }
        encode_binary(out, head, views)?;
        if self.misses < MOST {
            self.misses += 1;
            self.last = Layout::of(head, views).map(Box::new);
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn hits(&self) -> bool {
        self.misses == 0
    }
}

/// The layout of a model's answer, and its header.
struct Layout {
    tensors: SmallVec<[Tensor; 2]>,
    /// The header before the `id`, and behind it.
    header: [Box<[u8]>; 2],
    /// Bytes of the tensors.
    len: usize,
}

struct Tensor {
    name: Box<str>,
    datatype: DataType,
    shape: Shape,
}

impl Layout {
    /// That of an answer, if its outputs are tensors in binary.
    fn of(head: &ResponseHead<'_>, views: &[OutputView<'_>]) -> Option<Self> {
        let tensor = |view: &OutputView<'_>| {
            let tensor = || Tensor {
                name: view.name.into(),
                datatype: view.slice.datatype(),
                shape: view.slice.shape(),
            };
            is_plain(view).then(tensor)
        };
        let tensors = views.iter().map(tensor).collect::<Option<_>>()?;
        let (mut before, mut behind) = (BytesMut::new(), BytesMut::new());
        model(&mut before, head);
        outputs(&mut behind, views).ok()?;
        let len = views.iter().flat_map(|view| view.slice.chunks()).map(<[u8]>::len).sum();
        Some(Self { tensors, header: [before, behind].map(|part| part[..].into()), len })
    }

    /// Appends another answer of the same model, if it has this layout.
    fn encode(&self, out: &mut BytesMut, head: &ResponseHead<'_>, views: &[OutputView<'_>]) -> bool {
        let is_same = |(tensor, view): (&Tensor, &OutputView<'_>)| {
            is_plain(view)
                && *tensor.name == *view.name
                && tensor.datatype == view.slice.datatype()
                && view.slice.has_shape(&tensor.shape)
        };
        if self.tensors.len() != views.len() || !self.tensors.iter().zip(views).all(is_same) {
            return false;
        }
        let [before, behind] = &self.header;
        let start = out.len();
        out.reserve(size_of::<u32>() + before.len() + behind.len() + self.len);
        out.put_u32_le(0);
        out.extend_from_slice(before);
        id(out, head);
        out.extend_from_slice(behind);
        let header = u32::try_from(out.len() - start - size_of::<u32>());
        let (Ok(header), Some(field)) = (header, out[start..].first_chunk_mut()) else {
            out.truncate(start);
            return false;
        };
        *field = header.to_le_bytes();
        views.iter().flat_map(|view| view.slice.chunks()).for_each(|chunk| out.extend_from_slice(chunk));
        true
    }
}

/// A tensor in binary. `BYTES` differ in length where their shapes are the same.
fn is_plain(view: &OutputView<'_>) -> bool {
    view.binary && view.classification == 0 && view.slice.datatype() != DataType::Bytes
}
