//! Baseline JPEG, one colour for each block of 8 x 8 pixels: enough for a preview, and every decoder reads it.

/// An RGB picture as a JPEG file; `None` if an edge is 0 or longer than the format allows.
pub(crate) fn encode(pixels: &[u8], width: u32, height: u32) -> Option<Vec<u8>> {
    let blocks = (0..height.div_ceil(8))
        .flat_map(|row| (0..width.div_ceil(8)).map(move |column| (column, row)))
        .map(|(column, row)| average(pixels, width, height, column, row));
    file(width, height, blocks)
}

/// A picture in which every RGB pixel is enlarged to 8 x 8, as a JPEG file.
pub(crate) fn encode_enlarged(pixels: &[u8], width: u32, height: u32) -> Option<Vec<u8>> {
    let blocks = pixels
        .as_chunks::<3>()
        .0
        .iter()
        .map(|pixel| pixel.map(i32::from));
    file(width.checked_mul(8)?, height.checked_mul(8)?, blocks)
}

fn file(width: u32, height: u32, blocks: impl Iterator<Item = [i32; 3]>) -> Option<Vec<u8>> {
    let (wide, high) = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
    if wide == 0 || high == 0 {
        return None;
    }
    let mut file = vec![0xff, 0xd8];
    segment(&mut file, 0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    // Every quantizer is 8, which makes the coefficient of a block its average colour minus 128.
    segment(&mut file, 0xdb, &[&[0_u8][..], &[8; 64]].concat());
    let size = [&[8_u8][..], &high.to_be_bytes(), &wide.to_be_bytes()].concat();
    segment(
        &mut file,
        0xc0,
        &[&size[..], &[3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]].concat(),
    );
    // Twelve codes of four bits for the size of a difference, one code of one bit for "the rest of the block is zero".
    let lengths = |bits: usize, count: u8| -> Vec<u8> {
        (1..=16)
            .map(|length| if length == bits { count } else { 0 })
            .collect()
    };
    segment(
        &mut file,
        0xc4,
        &[&[0x00][..], &lengths(4, 12), &(0..12).collect::<Vec<u8>>()].concat(),
    );
    segment(
        &mut file,
        0xc4,
        &[&[0x10][..], &lengths(1, 1), &[0]].concat(),
    );
    segment(&mut file, 0xda, &[3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);
    scan(&mut file, blocks);
    file.extend_from_slice(&[0xff, 0xd9]);
    Some(file)
}

fn segment(file: &mut Vec<u8>, marker: u8, content: &[u8]) {
    let length = u16::try_from(content.len() + 2).unwrap_or(u16::MAX);
    file.extend_from_slice(&[0xff, marker]);
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(content);
}

/// Writes the colour of every block, row by row.
fn scan(file: &mut Vec<u8>, blocks: impl Iterator<Item = [i32; 3]>) {
    let mut bits = Bits::default();
    let mut before = [0_i32; 3];
    for colour in blocks {
        for (previous, component) in before.iter_mut().zip(to_ycbcr(colour)) {
            bits.difference(file, component - *previous);
            *previous = component;
        }
    }
    bits.finish(file);
}

fn average(pixels: &[u8], width: u32, height: u32, block_x: u32, block_y: u32) -> [i32; 3] {
    let (mut sums, mut count) = ([0_i32; 3], 0_i32);
    for y in block_y * 8..(block_y * 8 + 8).min(height) {
        for x in block_x * 8..(block_x * 8 + 8).min(width) {
            let index = usize::try_from(u64::from(y) * u64::from(width) + u64::from(x))
                .unwrap_or(usize::MAX);
            let Some(pixel) = index
                .checked_mul(3)
                .and_then(|index| pixels.get(index..index + 3))
            else {
                continue;
            };
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*value);
            }
            count += 1;
        }
    }
    sums.map(|sum| sum / count.max(1))
}

/// Luminance and the two colour differences, each between -128 and 127.
fn to_ycbcr([red, green, blue]: [i32; 3]) -> [i32; 3] {
    let luminance = (299 * red + 587 * green + 114 * blue) / 1000 - 128;
    let blueness = (-169 * red - 331 * green + 500 * blue) / 1000;
    let redness = (500 * red - 419 * green - 81 * blue) / 1000;
    [luminance, blueness, redness].map(|value| value.clamp(-128, 127))
}

/// Bits on their way into bytes.
#[derive(Default)]
struct Bits {
    waiting: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, file: &mut Vec<u8>, value: u32, length: u32) {
        self.waiting = (self.waiting << length) | value;
        self.count += length;
        while self.count >= 8 {
            self.count -= 8;
            let byte = u8::try_from((self.waiting >> self.count) & 0xff).unwrap_or(0);
            file.push(byte);
            if byte == 0xff {
                file.push(0);
            }
            self.waiting &= (1 << self.count) - 1;
        }
    }

    fn difference(&mut self, file: &mut Vec<u8>, difference: i32) {
        let magnitude = difference.unsigned_abs();
        let size = 32 - magnitude.leading_zeros();
        self.put(file, size, 4);
        if size > 0 {
            let bits = if difference > 0 {
                magnitude
            } else {
                ((1 << size) - 1) - magnitude
            };
            self.put(file, bits, size);
        }
        self.put(file, 0, 1);
    }

    fn finish(&mut self, file: &mut Vec<u8>) {
        let missing = (8 - self.count % 8) % 8;
        self.put(file, (1 << missing) - 1, missing);
    }
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn a_file_starts_and_ends_as_jpeg_does() {
        let file = encode(&[200; 20 * 10 * 3], 20, 10).unwrap();
        assert!(file.starts_with(&[0xff, 0xd8, 0xff, 0xe0]));
        assert!(file.ends_with(&[0xff, 0xd9]));
    }

    #[test]
    fn an_empty_picture_has_no_file() {
        assert!(encode(&[], 0, 10).is_none());
    }
}
