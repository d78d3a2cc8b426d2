//! What a run leaves behind: pictures, videos, sounds, texts, files.

use serde_json::Value;

use crate::digest::Sha256Digest;
use crate::ports::BlobKey;

/// What sort of thing an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// A still or animated picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
    /// A text, stored as a UTF-8 file.
    Text,
    /// Anything else.
    File,
}

impl OutputKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Text,
        Self::File,
    ];

    /// The word that the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Text => "text",
            Self::File => "file",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Judges by a content type, such as `image/png`.
    pub fn of_content_type(content_type: &str) -> Self {
        match content_type.split('/').next() {
            Some("image") => Self::Image,
            Some("video") => Self::Video,
            Some("audio") => Self::Audio,
            Some("text") => Self::Text,
            _ => Self::File,
        }
    }
}

/// One output of a run, stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutput {
    /// Its place among the run's outputs, from 0.
    pub index: u32,
    /// The id of the node that made it.
    pub node_id: String,
    /// What sort of thing it is.
    pub kind: OutputKind,
    /// What the backend called it, without folders.
    pub filename: String,
    /// Its media type, such as `image/png`.
    pub content_type: String,
    /// How large it is, in bytes.
    pub size_bytes: u64,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// `[width, height]` in pixels, for pictures whose header could be read.
    pub dimensions: Option<[u32; 2]>,
    /// Where its bytes are.
    pub blob_key: BlobKey,
}

/// What a backend says a node left behind (`reference/comfyui/PROTOCOL.md`
/// section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendOutput {
    /// The id of the node.
    pub node_id: String,
    /// The member of the node's output it stood under: `images`, `gifs`,
    /// `audio`, `text`, and whatever custom nodes invent.
    pub key: String,
    /// The thing itself.
    pub content: BackendOutputContent,
}

/// The two shapes in which outputs are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendOutputContent {
    /// A file that the backend hands out at `/view`.
    File(BackendFile),
    /// A text that stands in the history itself.
    Text(String),
}

/// A file in one of a backend's folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFile {
    /// Its name, without folders.
    pub filename: String,
    /// Its folder, relative to the root that `folder` names; empty for the
    /// root itself.
    pub subfolder: String,
    /// Which root.
    pub folder: BackendFolder,
}

/// The folders of a backend that `/view` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendFolder {
    /// What save nodes write.
    Output,
    /// What preview nodes write; gone after a restart.
    Temporary,
    /// What was uploaded.
    Input,
}

impl BackendFolder {
    /// ComfyUI's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Temporary => "temp",
            Self::Input => "input",
        }
    }

    /// Reads ComfyUI's word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Output, Self::Temporary, Self::Input]
            .into_iter()
            .find(|folder| folder.as_str() == word)
    }
}

impl BackendOutput {
    /// Reads the `outputs` member of a history entry, in the order of node
    /// ids and as each node lists them.
    ///
    /// Dispatches on the shape, an object with a `filename` or a text, not on
    /// the key: custom nodes invent keys
    /// (`reference/comfyui/PROTOCOL.md` section 5). What has neither shape is
    /// left out.
    pub fn from_history(outputs: &Value) -> Vec<Self> {
        let Some(nodes) = outputs.as_object() else {
            return Vec::new();
        };
        let mut nodes: Vec<_> = nodes.iter().collect();
        nodes.sort_by_key(|(node_id, _)| {
            (
                node_id.parse::<u64>().unwrap_or(u64::MAX),
                (*node_id).clone(),
            )
        });
        nodes
            .into_iter()
            .flat_map(|(node_id, output)| Self::of_node(node_id, output))
            .collect()
    }

    fn of_node(node_id: &str, output: &Value) -> Vec<Self> {
        let Some(members) = output.as_object() else {
            return Vec::new();
        };
        members
            .iter()
            .flat_map(|(key, items)| {
                items
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(BackendOutputContent::read)
                    .map(move |content| Self {
                        node_id: node_id.to_owned(),
                        key: key.clone(),
                        content,
                    })
            })
            .collect()
    }
}

impl BackendOutputContent {
    fn read(item: &Value) -> Option<Self> {
        if let Some(text) = item.as_str() {
            return Some(Self::Text(text.to_owned()));
        }
        let text = |key: &str| item.get(key).and_then(Value::as_str);
        Some(Self::File(BackendFile {
            filename: text("filename").filter(|name| !name.is_empty())?.to_owned(),
            subfolder: text("subfolder").unwrap_or_default().to_owned(),
            folder: BackendFolder::parse(text("type").unwrap_or("output"))?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outputs_are_read_by_shape_in_node_order() {
        let history = json!({
            "10": {"images": [{"filename": "b.png", "subfolder": "s", "type": "output"}], "animated": [true]},
            "9": {"text": ["hello"], "odd": [{"name": "no filename"}], "odder": 3}
        });

        let outputs = BackendOutput::from_history(&history);

        assert_eq!(
            outputs,
            [
                BackendOutput {
                    node_id: "9".into(),
                    key: "text".into(),
                    content: BackendOutputContent::Text("hello".into()),
                },
                BackendOutput {
                    node_id: "10".into(),
                    key: "images".into(),
                    content: BackendOutputContent::File(BackendFile {
                        filename: "b.png".into(),
                        subfolder: "s".into(),
                        folder: BackendFolder::Output,
                    }),
                },
            ]
        );
    }

    #[test]
    fn a_folder_that_comfyui_does_not_have_is_left_out() {
        let history = json!({"1": {"images": [{"filename": "b.png", "type": "/etc"}]}});

        assert_eq!(BackendOutput::from_history(&history), []);
    }
}
