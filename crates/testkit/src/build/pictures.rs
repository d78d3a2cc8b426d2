use atelier_domain::actor::Actor;
use atelier_domain::ids::InputId;
use atelier_domain::input::{Input, InputFilename, InputFormat, InputPath};
use atelier_domain::ports::BlobKey;

use super::{next_time, sha256_of};
use crate::random_id;

/// A PNG of `owner`'s that is stored under a key of its own; other `bytes` are
/// another picture.
pub fn an_input(owner: &Actor, filename: &str, bytes: &[u8]) -> Input {
    let (id, user_id) = (InputId::new(random_id()), owner.user_id());
    let (sha256, format) = (sha256_of(bytes), InputFormat::Png);
    Input {
        id,
        user_id,
        filename: InputFilename::parse(filename).expect("the test names a good file name"),
        format,
        size_bytes: bytes.len() as u64,
        sha256,
        width: 64,
        height: 32,
        comfyui_path: InputPath::of(user_id, &sha256, format),
        blob_key: BlobKey::of_input(user_id, id),
        created_at: next_time(),
    }
}
