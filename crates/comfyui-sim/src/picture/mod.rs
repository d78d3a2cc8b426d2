//! Pixels: painting them from a digest, scaling, and the file formats.

mod digest;
mod jpeg;
mod paint;
mod png;
mod scale;

use std::sync::Arc;

pub(crate) use digest::{Digest, digest, digest_of};
pub(crate) use jpeg::{encode as encode_jpeg, encode_enlarged as encode_enlarged_jpeg};
pub(crate) use paint::paint;
pub(crate) use png::{decode as decode_png, encode as encode_png};
pub(crate) use scale::{Method, scale};

/// More pixel bytes than this in one node's result are "out of memory".
const MAX_BYTES: u64 = 1 << 30;

/// Eight-bit RGB pictures of one size.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// One for each picture of the batch, rows from the top, three bytes a pixel.
    pub(crate) frames: Vec<Arc<[u8]>>,
}

/// The bytes of one frame, or `None` if a batch of them is too large to be computed here.
pub(crate) fn frame_bytes(width: u32, height: u32, batch: u64) -> Option<usize> {
    let frame = u64::from(width)
        .checked_mul(u64::from(height))?
        .checked_mul(3)?;
    let total = frame.checked_mul(batch.max(1))?;
    if total > MAX_BYTES {
        return None;
    }
    usize::try_from(frame).ok()
}
