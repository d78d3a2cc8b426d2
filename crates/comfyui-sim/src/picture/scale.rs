//! Changing the size of pictures.

/// How a pixel of the new size gets its colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    /// The colour of the nearest pixel.
    Nearest,
    /// The weighted colours of the four nearest pixels. Stands for every smooth method of the real server.
    Bilinear,
}

/// Scales one frame of `width` x `height` RGB pixels.
pub(crate) fn scale(
    frame: &[u8],
    (width, height): (u32, u32),
    (to_width, to_height): (u32, u32),
    method: Method,
) -> Vec<u8> {
    let mut scaled = Vec::with_capacity(
        3 * usize::try_from(u64::from(to_width) * u64::from(to_height)).unwrap_or(0),
    );
    for y in 0..to_height {
        let row = Sample::of(y, height, to_height, method);
        for x in 0..to_width {
            let column = Sample::of(x, width, to_width, method);
            for channel in 0..3 {
                let at = |x: u32, y: u32| pixel(frame, width, x, y, channel);
                let above = column.mix(at(column.first, row.first), at(column.second, row.first));
                let below = column.mix(at(column.first, row.second), at(column.second, row.second));
                scaled.push(u8::try_from(row.mix(above, below)).unwrap_or(u8::MAX));
            }
        }
    }
    scaled
}

fn pixel(frame: &[u8], width: u32, x: u32, y: u32, channel: usize) -> u32 {
    let index =
        usize::try_from(u64::from(y) * u64::from(width) + u64::from(x)).unwrap_or(usize::MAX);
    index
        .checked_mul(3)
        .and_then(|index| frame.get(index + channel))
        .copied()
        .map_or(0, u32::from)
}

/// Two source positions and, in 1/256, how much the second one counts.
#[derive(Clone, Copy)]
struct Sample {
    first: u32,
    second: u32,
    share: u32,
}

impl Sample {
    fn of(position: u32, from: u32, to: u32, method: Method) -> Self {
        let last = from.saturating_sub(1);
        let (from, to, position) = (i64::from(from), i64::from(to.max(1)), i64::from(position));
        // The centre of the new pixel in the old picture, in 1/256 of a pixel.
        let centre = (2 * position + 1) * from * 128 / to;
        let clamp = |value: i64| u32::try_from(value.max(0)).unwrap_or(0).min(last);
        match method {
            Method::Nearest => Self {
                first: clamp(centre / 256),
                second: clamp(centre / 256),
                share: 0,
            },
            Method::Bilinear => {
                let left = (centre - 128).max(0);
                Self {
                    first: clamp(left / 256),
                    second: clamp(left / 256 + 1),
                    share: u32::try_from(left % 256).unwrap_or(0),
                }
            }
        }
    }

    fn mix(self, first: u32, second: u32) -> u32 {
        (first * (256 - self.share) + second * self.share) / 256
    }
}

#[cfg(test)]
mod tests {
    use super::{Method, scale};

    const TWO: [u8; 6] = [0, 0, 0, 200, 100, 50];

    #[test]
    fn nearest_doubles_every_pixel() {
        let scaled = scale(&TWO, (2, 1), (4, 1), Method::Nearest);
        assert_eq!(scaled, [0, 0, 0, 0, 0, 0, 200, 100, 50, 200, 100, 50]);
    }

    #[test]
    fn bilinear_mixes_neighbours() {
        let scaled = scale(&TWO, (2, 1), (4, 1), Method::Bilinear);
        assert_eq!(scaled, [0, 0, 0, 50, 25, 12, 150, 75, 37, 200, 100, 50]);
    }
}
