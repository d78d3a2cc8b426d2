//! PNG files.

use std::io::Cursor;

use png::{BitDepth, ColorType, Compression, Encoder, Transformations};

/// An RGB picture as a PNG file, with these texts in `tEXt` chunks.
pub(crate) fn encode(
    pixels: &[u8],
    width: u32,
    height: u32,
    texts: &[(String, String)],
) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::with_capacity(pixels.len() / 2 + 1024);
    let mut encoder = Encoder::new(&mut file, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    for (keyword, text) in texts {
        encoder.add_text_chunk(keyword.clone(), text.clone())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

/// A decoded PNG file.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Three bytes a pixel.
    pub(crate) rgb: Vec<u8>,
    /// One byte a pixel, 255 where the file has no transparency.
    pub(crate) alpha: Vec<u8>,
}

/// Reads any PNG file as eight-bit RGB.
pub(crate) fn decode(file: &[u8]) -> Result<Decoded, png::DecodingError> {
    let mut decoder = png::Decoder::new(Cursor::new(file));
    decoder.set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
    let mut reader = decoder.read_info()?;
    let size = reader
        .output_buffer_size()
        .ok_or(png::DecodingError::LimitsExceeded)?;
    let mut buffer = vec![0; size];
    let info = reader.next_frame(&mut buffer)?;
    let (mut rgb, mut alpha) = (Vec::new(), Vec::new());
    for pixel in buffer.chunks(info.color_type.samples()) {
        match *pixel {
            [red, green, blue, opacity] => {
                rgb.extend_from_slice(&[red, green, blue]);
                alpha.push(opacity);
            }
            [red, green, blue] => {
                rgb.extend_from_slice(&[red, green, blue]);
                alpha.push(u8::MAX);
            }
            [grey, opacity] => {
                rgb.extend_from_slice(&[grey, grey, grey]);
                alpha.push(opacity);
            }
            [grey] => {
                rgb.extend_from_slice(&[grey, grey, grey]);
                alpha.push(u8::MAX);
            }
            _ => {}
        }
    }
    Ok(Decoded {
        width: info.width,
        height: info.height,
        rgb,
        alpha,
    })
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn a_written_picture_reads_back() {
        let pixels: Vec<u8> = (0..5 * 3 * 3).collect();
        let file = encode(&pixels, 5, 3, &[("prompt".to_owned(), "{}".to_owned())]).unwrap();
        let decoded = decode(&file).unwrap();
        assert_eq!((decoded.width, decoded.height, decoded.rgb), (5, 3, pixels));
        assert!(decoded.alpha.iter().all(|opacity| *opacity == 255));
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let file = encode(&[9; 300], 10, 10, &[]).unwrap();
        assert!(decode(&file[..file.len() / 2]).is_err());
    }
}
