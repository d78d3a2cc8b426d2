use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest as _, Md5};
use s3s::dto::{CompleteMultipartUploadInput, ETag};

/// S3's limit for every part but the last.
const LEAST_PART_BYTES: u64 = 5 * 1024 * 1024;

/// Parts that can be put together without reading them again: `s3s-fs` reads,
/// digests and writes them once more, while S3 has done all that when they came.
///
/// Knows three file names of `s3s-fs`, whose version is pinned for that.
#[derive(Debug)]
pub(crate) struct Assembly {
    parts: Vec<PathBuf>,
    object: PathBuf,
    details: PathBuf,
    e_tag: String,
}

impl Assembly {
    /// `None` for what `s3s-fs` has to judge: conditions, and everything that
    /// is wrong with the parts.
    pub(crate) fn of(root: &Path, input: &CompleteMultipartUploadInput) -> Option<Self> {
        if input.if_match.is_some() || input.if_none_match.is_some() {
            return None;
        }
        let listed = input.multipart_upload.as_ref()?.parts.as_deref()?;
        let (bucket, key) = (&input.bucket, &input.key);
        let mut digests = Md5::new();
        let mut parts = Vec::with_capacity(listed.len());
        for (part, number) in listed.iter().zip(1..) {
            let digest = part.e_tag.as_ref().and_then(ETag::as_strong)?;
            digests.update(hex::decode(digest).ok()?);
            let path = root.join(format!(".upload_id-{}.part-{number}", input.upload_id));
            let is_last = parts.len() + 1 == listed.len();
            let bytes = fs::metadata(&path).ok()?.len();
            if part.part_number != Some(number) || bytes < LEAST_PART_BYTES && !is_last {
                return None;
            }
            parts.push(path);
        }
        let encoded = [bucket, key].map(|text| URL_SAFE_NO_PAD.encode(text));
        let [encoded_bucket, encoded_key] = encoded;
        (!parts.is_empty()).then(|| Self {
            e_tag: format!("{}-{}", hex::encode(digests.finalize()), parts.len()),
            object: root.join(bucket).join(key),
            details: root.join(format!(
                ".bucket-{encoded_bucket}.object-{encoded_key}.internal.json"
            )),
            parts,
        })
    }

    /// Makes the object, and gives its entity tag. It appears at once and whole.
    pub(crate) fn put_together(self) -> io::Result<ETag> {
        let Some((first, others)) = self.parts.split_first() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut whole = OpenOptions::new().write(true).open(first)?;
        whole.seek(SeekFrom::End(0))?;
        for part in others {
            // Stays inside the kernel.
            io::copy(&mut File::open(part)?, &mut whole)?;
            fs::remove_file(part)?;
        }
        if let Some(folder) = self.object.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.details, format!("{{\"e_tag\":\"{}\"}}", self.e_tag))?;
        fs::rename(first, &self.object)?;
        Ok(ETag::Strong(self.e_tag))
    }
}
