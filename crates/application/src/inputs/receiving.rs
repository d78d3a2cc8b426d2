use atelier_domain::digest::Sha256Digest;
use atelier_domain::input::InputFormat;
use bytes::BytesMut;
use sha2::{Digest as _, Sha256};

use super::UploadInputError;
use crate::picture::picture;

/// Bytes in which a picture must have told its size; a JPEG may have megabytes
/// of colour profiles before.
const MAX_HEAD_BYTES: usize = 4 * 1024 * 1024;

/// Bytes by which every format that is taken can be told.
const MAGIC_BYTES: usize = 12;

/// Pixels that a picture may have: twice what Pillow, with which `ComfyUI`
/// reads it, warns of, so that the very next pixel would be an error there.
const MAX_PIXELS: u64 = 178_956_970;

/// Counts, judges and digests a picture while its bytes pass.
#[derive(Debug)]
pub(super) struct Receiving {
    head: BytesMut,
    picture: Option<Picture>,
    sha256: Sha256,
    received_bytes: u64,
    max_bytes: u64,
}

/// What a picture says of itself.
#[derive(Clone, Copy, Debug)]
struct Picture {
    format: InputFormat,
    width: u32,
    height: u32,
}

/// A picture that passed whole.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) format: InputFormat,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) size_bytes: u64,
    pub(super) sha256: Sha256Digest,
}

impl Receiving {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            head: BytesMut::new(),
            picture: None,
            sha256: Sha256::new(),
            received_bytes: 0,
            max_bytes,
        }
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Takes the next bytes; refuses the file as soon as it is certain that it
    /// will be refused.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), UploadInputError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.received_bytes = self.received_bytes.saturating_add(more);
        if self.received_bytes > self.max_bytes {
            return Err(UploadInputError::TooLarge {
                limit_bytes: self.max_bytes,
            });
        }
        if self.picture.is_none() {
            self.head.extend_from_slice(bytes);
            self.judge(false)?;
        }
        self.sha256.update(bytes);
        Ok(())
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<Received, UploadInputError> {
        if self.picture.is_none() {
            self.judge(true)?;
        }
        let picture = self.picture.ok_or_else(cut_short)?;
        Ok(Received {
            format: picture.format,
            width: picture.width,
            height: picture.height,
            size_bytes: self.received_bytes,
            sha256: Sha256Digest::new(self.sha256.finalize().into()),
        })
    }

    /// Looks at what is there; `is_all` says that no more will come.
    fn judge(&mut self, is_all: bool) -> Result<(), UploadInputError> {
        let Some((format, dimensions)) = picture(&self.head) else {
            return if is_all || self.head.len() >= MAGIC_BYTES {
                Err(not_taken())
            } else {
                Ok(())
            };
        };
        let Some([width, height]) = dimensions else {
            return if is_all || self.head.len() > MAX_HEAD_BYTES {
                Err(cut_short())
            } else {
                Ok(())
            };
        };
        check_size(width, height)?;
        self.picture = Some(Picture {
            format,
            width,
            height,
        });
        self.head = BytesMut::new();
        Ok(())
    }
}

fn check_size(width: u32, height: u32) -> Result<(), UploadInputError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(UploadInputError::NotAPicture(format!(
            "is a picture of {width} by {height} pixels: there is nothing on it"
        )));
    }
    if pixels > MAX_PIXELS {
        return Err(UploadInputError::NotAPicture(format!(
            "is a picture of {width} by {height} pixels; one may have {MAX_PIXELS} in all"
        )));
    }
    Ok(())
}

fn not_taken() -> UploadInputError {
    UploadInputError::NotAPicture(
        "is no PNG, JPEG, WebP or GIF, by its first bytes; convert it to one of these".to_owned(),
    )
}

fn cut_short() -> UploadInputError {
    UploadInputError::NotAPicture(
        "is a picture that does not say how large it is: it is damaged or was cut short".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a PNG, and what may follow it.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        png.extend([8, 2, 0, 0, 0, 1, 2, 3, 4]);
        png
    }

    fn receive(file: &[u8], chunk: usize) -> Result<Received, UploadInputError> {
        let mut receiving = Receiving::new(1_000);
        for piece in file.chunks(chunk) {
            receiving.take(piece)?;
        }
        receiving.finish()
    }

    fn refusal(file: &[u8]) -> String {
        receive(file, 7).map_or_else(|error| error.to_string(), |taken| format!("{taken:?}"))
    }

    #[test]
    fn what_a_picture_is_does_not_depend_on_how_its_bytes_come() {
        let file = png(640, 480);
        for chunk in [1, 7, 100] {
            let received = receive(&file, chunk).unwrap();

            assert_eq!(received.format, InputFormat::Png);
            assert_eq!([received.width, received.height], [640, 480]);
            assert_eq!(received.size_bytes, file.len() as u64);
            let expected = Sha256Digest::new(Sha256::digest(&file).into());
            assert_eq!(received.sha256, expected);
        }
    }

    #[test]
    fn what_would_fill_a_memory_is_refused() {
        assert!(receive(&png(13_377, 13_377), 100).is_ok());
        for (width, height) in [(13_378, 13_377), (u32::MAX, u32::MAX), (178_956_971, 1)] {
            assert!(refusal(&png(width, height)).contains("178956970"));
        }
        assert!(refusal(&png(0, 480)).contains("nothing on it"));
    }

    #[test]
    fn other_files_are_refused_at_their_first_bytes() {
        for file in [
            &b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"[..],
            b"<html><script>alert(1)</script></html>",
            b"\x80\x04\x95\x1a\0\0\0\0\0\0\0cos\nsystem",
            b"",
        ] {
            assert!(refusal(file).contains("PNG, JPEG, WebP or GIF"));
        }
        let mut receiving = Receiving::new(1_000);
        assert!(receiving.take(b"<svg").is_ok());
        assert!(receiving.take(b" xmlns=\"").is_err());
    }

    #[test]
    fn a_picture_that_ends_in_its_head_is_refused() {
        assert!(refusal(&png(640, 480)[..20]).contains("cut short"));
        assert!(refusal(b"\xff\xd8\xff\xe0\0\x10JFIF").contains("cut short"));
    }

    #[test]
    fn more_bytes_than_allowed_are_refused_when_they_come() {
        let mut receiving = Receiving::new(40);
        receiving.take(&png(640, 480)).unwrap();

        let refused = receiving.take(&[0; 40]);

        assert!(
            matches!(refused, Err(UploadInputError::TooLarge { limit_bytes: 40 })),
            "{refused:?}"
        );
    }
}
