//! Pictures as the server hands them out.

use std::io::Cursor;

use serde_json::Value;

/// A decoded PNG file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The pixels, as they lie in the file.
    pub pixels: Vec<u8>,
    texts: Vec<(String, String)>,
}

impl Picture {
    /// Decodes a file.
    #[track_caller]
    pub fn decode(file: &[u8]) -> Self {
        let mut reader = png::Decoder::new(Cursor::new(file))
            .read_info()
            .expect("a PNG file");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a small picture")];
        let frame = reader.next_frame(&mut pixels).expect("a whole picture");
        reader.finish().expect("a whole file");
        let texts = reader.info().uncompressed_latin1_text.iter();
        Self {
            width: frame.width,
            height: frame.height,
            pixels,
            texts: texts
                .map(|chunk| (chunk.keyword.clone(), chunk.text.clone()))
                .collect(),
        }
    }

    /// The graph that made it, out of the text `prompt` that ComfyUI writes into its pictures.
    #[track_caller]
    pub fn prompt(&self) -> Value {
        let (_, text) = self
            .texts
            .iter()
            .find(|(keyword, _)| keyword == "prompt")
            .expect("ComfyUI writes the prompt into the picture");
        serde_json::from_str(text).expect("the prompt is JSON")
    }
}
