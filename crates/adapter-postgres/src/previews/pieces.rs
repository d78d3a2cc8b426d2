//! A picture in pieces that fit into notifications.

use atelier_domain::ids::RunId;
use atelier_domain::ports::{PreviewFormat, PreviewImage};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

/// How much of a picture is in one piece, before it is written in base 64: that and the words before it stay below the
/// 8000 bytes of a notification.
const PIECE_BYTES: usize = 5_800;

/// One piece of a picture: `sender picture run index count content-type base64`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The process that it comes from.
    pub(super) sender: u64,
    /// Which of that process's pictures.
    pub(super) picture: u64,
    pub(super) run: RunId,
    pub(super) index: usize,
    pub(super) count: usize,
    pub(super) format: PreviewFormat,
    pub(super) bytes: Vec<u8>,
}

impl Piece {
    /// Reads a payload; `None` for what is none of ours, whoever sent it.
    pub(super) fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.splitn(7, ' ');
        let sender = words.next()?.parse().ok()?;
        let picture = words.next()?.parse().ok()?;
        let run = words.next()?.parse().ok()?;
        let index = words.next()?.parse().ok()?;
        let count = words.next()?.parse().ok()?;
        let format = words.next()?;
        let format = PreviewFormat::ALL
            .into_iter()
            .find(|known| known.content_type() == format)?;
        let bytes = STANDARD_NO_PAD.decode(words.next()?).ok()?;
        let is_possible = index < count && count <= pieces_of(PreviewImage::MAX_BYTES);
        is_possible.then_some(Self {
            sender,
            picture,
            run,
            index,
            count,
            format,
            bytes,
        })
    }
}

/// At least one: there may be nothing in it.
fn pieces_of(size: usize) -> usize {
    size.div_ceil(PIECE_BYTES).max(1)
}

/// The payloads of a picture, in order.
pub(super) fn payloads(sender: u64, picture: u64, run: RunId, image: &PreviewImage) -> Vec<String> {
    let count = pieces_of(image.bytes.len());
    let format = image.content_type.content_type();
    let mut rest = image.bytes.clone();
    (0..count)
        .map(|index| {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            let text = STANDARD_NO_PAD.encode(piece);
            format!("{sender} {picture} {run} {index} {count} {format} {text}")
        })
        .collect()
}

/// A picture of which some pieces are there.
#[derive(Debug)]
pub(super) struct Unfinished {
    sender: u64,
    picture: u64,
    count: usize,
    pieces: usize,
    format: PreviewFormat,
    bytes: Vec<u8>,
}

impl Unfinished {
    /// Begins with a picture's first piece; `None` for any other.
    pub(super) fn begin(piece: &Piece) -> Option<Self> {
        (piece.index == 0).then(|| Self {
            sender: piece.sender,
            picture: piece.picture,
            count: piece.count,
            pieces: 0,
            format: piece.format,
            bytes: Vec::new(),
        })
    }

    /// Adds a piece; false if it is not the next one of this picture, or more than there may be.
    pub(super) fn add(&mut self, piece: &Piece) -> bool {
        let is_next = (piece.sender, piece.picture, piece.count, piece.index)
            == (self.sender, self.picture, self.count, self.pieces)
            && piece.format == self.format
            && self.bytes.len() + piece.bytes.len() <= PreviewImage::MAX_BYTES;
        if is_next {
            self.bytes.extend_from_slice(&piece.bytes);
            self.pieces += 1;
        }
        is_next
    }

    /// The picture, once it is whole.
    pub(super) fn finish(&mut self) -> Option<PreviewImage> {
        (self.pieces == self.count).then(|| PreviewImage {
            content_type: self.format,
            bytes: Bytes::from(std::mem::take(&mut self.bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn picture(size: usize) -> PreviewImage {
        PreviewImage {
            content_type: PreviewFormat::Png,
            bytes: Bytes::from(vec![7; size]),
        }
    }

    #[test]
    fn every_payload_fits_into_a_notification_and_is_read_back() {
        let run = RunId::new(Uuid::max());
        for size in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, PreviewImage::MAX_BYTES] {
            let payloads = payloads(u64::MAX, u64::MAX, run, &picture(size));
            let mut whole: Option<Unfinished> = None;
            for payload in &payloads {
                assert!(payload.len() < 8_000, "{}", payload.len());
                let piece = Piece::parse(payload).unwrap();
                let begun = whole.take().or_else(|| Unfinished::begin(&piece));
                let mut begun = begun.unwrap();
                assert!(begun.add(&piece));
                whole = Some(begun);
            }

            assert_eq!(whole.unwrap().finish(), Some(picture(size)), "{size}");
        }
    }

    #[test]
    fn what_is_no_piece_is_ignored() {
        let run = RunId::new(Uuid::nil());
        for payload in [
            String::new(),
            "1".to_owned(),
            format!("1 1 {run} 0 1 image/jpeg"),
            format!("1 1 {run} 0 1 image/jpeg ***"),
            format!("1 1 {run} 0 1 image/svg+xml AAAA"),
            format!("1 1 {run} 1 1 image/jpeg AAAA"),
            format!("1 1 {run} 0 0 image/jpeg AAAA"),
            format!("1 1 {run} 0 1000000 image/jpeg AAAA"),
            format!("-1 1 {run} 0 1 image/jpeg AAAA"),
            "1 1 run 0 1 image/jpeg AAAA".to_owned(),
        ] {
            assert_eq!(Piece::parse(&payload), None, "{payload}");
        }
    }
}
