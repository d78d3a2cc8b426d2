//! One run of one node: its arguments, its results, and how it can fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::executor::Run;
use crate::instance::Instance;
use crate::picture::{Digest, Pictures};
use crate::python;

/// A latent picture: its size, and the digest of everything that went into it.
#[derive(Clone, Debug)]
pub(crate) struct Latent {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) batch: u64,
    pub(crate) digest: Digest,
}

/// What a link carries.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// A model, text encoder, conditioning and the like: only what went into it counts. The text is its Python class.
    Opaque(&'static str, Digest),
    Latent(Latent),
    Pictures(Pictures),
    Text(String),
    Json(Value),
}

impl Slot {
    /// How Python would print it, shortened.
    fn describe(&self) -> String {
        match self {
            Self::Opaque(class, digest) => {
                format!(
                    "<{class} object at 0x7f{}>",
                    hex::encode(digest.first_chunk::<5>().unwrap_or(&[0; 5]))
                )
            }
            Self::Latent(latent) => {
                format!(
                    "{{'samples': tensor(shape=[{}, 4, {}, {}])}}",
                    latent.batch,
                    latent.height / 8,
                    latent.width / 8
                )
            }
            Self::Pictures(pictures) => {
                format!(
                    "tensor(shape=[{}, {}, {}, 3])",
                    pictures.frames.len(),
                    pictures.height,
                    pictures.width
                )
            }
            Self::Text(text) => text.clone(),
            Self::Json(value) => python::text(value),
        }
    }
}

/// The value of one input at run time.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Literal(Value),
    Linked(Slot),
}

/// What a node leaves behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Produced {
    pub(crate) slots: Vec<Slot>,
    /// The `output` of the `executed` event.
    pub(crate) ui: Option<Value>,
}

impl Produced {
    pub(crate) fn slots(slots: impl IntoIterator<Item = Slot>) -> Self {
        Self {
            slots: slots.into_iter().collect(),
            ui: None,
        }
    }
}

/// Why a node did not finish.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Somebody interrupted the prompt.
    Interrupted,
    /// The server is going down.
    Abandoned,
    /// The node raised an exception.
    Raised {
        exception: &'static str,
        message: String,
    },
}

impl Failure {
    pub(crate) fn raised(exception: &'static str, message: impl Into<String>) -> Self {
        Self::Raised {
            exception,
            message: message.into(),
        }
    }
}

/// One run of one node.
#[derive(Debug)]
pub(crate) struct Call<'run> {
    pub(crate) node_id: &'run str,
    pub(crate) run: &'run Run<'run>,
    pub(crate) arguments: BTreeMap<String, Argument>,
}

impl Call<'_> {
    pub(crate) fn instance(&self) -> &Instance {
        self.run.instance
    }

    fn argument(&self, name: &str) -> Result<&Argument, Failure> {
        self.arguments.get(name).ok_or_else(|| {
            Failure::raised(
                "TypeError",
                format!("missing 1 required positional argument: '{name}'"),
            )
        })
    }

    /// The plain value of an input, whether it was typed in or linked.
    fn value(&self, name: &str) -> Result<Value, Failure> {
        match self.argument(name)? {
            Argument::Literal(value) | Argument::Linked(Slot::Json(value)) => Ok(value.clone()),
            Argument::Linked(Slot::Text(text)) => Ok(json!(text)),
            Argument::Linked(other) => Err(Failure::raised(
                "TypeError",
                format!("unsupported value for '{name}': {}", other.describe()),
            )),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<u64, Failure> {
        let value = self.value(name)?;
        value.as_u64().ok_or_else(|| {
            Failure::raised(
                "TypeError",
                format!(
                    "'{}' object cannot be interpreted as an integer",
                    python::type_name(&value)
                ),
            )
        })
    }

    /// An integer that is the length of an edge.
    pub(crate) fn edge(&self, name: &str) -> Result<u32, Failure> {
        u32::try_from(self.integer(name)?).map_err(|_too_large| {
            Failure::raised("RuntimeError", "numel: integer multiplication overflow")
        })
    }

    pub(crate) fn float(&self, name: &str) -> Result<f64, Failure> {
        let value = self.value(name)?;
        value.as_f64().ok_or_else(|| {
            Failure::raised(
                "TypeError",
                format!("must be real number, not {}", python::type_name(&value)),
            )
        })
    }

    pub(crate) fn text(&self, name: &str) -> Result<String, Failure> {
        Ok(python::text(&self.value(name)?))
    }

    /// Anything as text, for the node that shows everything.
    pub(crate) fn shown(&self, name: &str) -> Result<String, Failure> {
        Ok(match self.argument(name)? {
            Argument::Literal(Value::String(text)) => text.clone(),
            Argument::Literal(value) | Argument::Linked(Slot::Json(value)) => python::dumps(value),
            Argument::Linked(slot) => slot.describe(),
        })
    }

    /// The digest of a model, text encoder and the like.
    pub(crate) fn opaque(&self, name: &str) -> Result<Digest, Failure> {
        match self.argument(name)? {
            Argument::Linked(Slot::Opaque(_, digest)) => Ok(*digest),
            other => Err(no_attribute(other, "clone")),
        }
    }

    pub(crate) fn latent(&self, name: &str) -> Result<&Latent, Failure> {
        match self.argument(name)? {
            Argument::Linked(Slot::Latent(latent)) => Ok(latent),
            Argument::Literal(_) => Err(Failure::raised(
                "TypeError",
                "string indices must be integers, not 'str'",
            )),
            other @ Argument::Linked(_) => Err(no_attribute(other, "samples")),
        }
    }

    pub(crate) fn pictures(&self, name: &str) -> Result<&Pictures, Failure> {
        match self.argument(name)? {
            Argument::Linked(Slot::Pictures(pictures)) => Ok(pictures),
            other => Err(no_attribute(other, "shape")),
        }
    }

    /// The `current_inputs` of an `execution_error`: every argument as a list of one text or number.
    pub(crate) fn described_arguments(&self, hidden: &[(&'static str, &'static str)]) -> Value {
        let mut described = serde_json::Map::new();
        for (name, argument) in &self.arguments {
            let value = match argument {
                Argument::Literal(value @ (Value::Array(_) | Value::Object(_))) => {
                    json!(python::repr(value))
                }
                Argument::Literal(value) => value.clone(),
                Argument::Linked(slot) => json!(slot.describe()),
            };
            described.insert(name.clone(), json!([value]));
        }
        for (name, kind) in hidden {
            let value = match *kind {
                "PROMPT" => json!(python::repr(&self.run.item.prompt.to_value())),
                _ => match self.run.item.extra_data.get("extra_pnginfo") {
                    None | Some(Value::Null) => Value::Null,
                    Some(value) => json!(python::repr(value)),
                },
            };
            described.insert((*name).to_owned(), json!([value]));
        }
        Value::Object(described)
    }
}

fn no_attribute(argument: &Argument, attribute: &str) -> Failure {
    let class = match argument {
        Argument::Literal(value) | Argument::Linked(Slot::Json(value)) => python::type_name(value),
        Argument::Linked(Slot::Opaque(class, _)) => class.rsplit('.').next().unwrap_or(class),
        Argument::Linked(Slot::Latent(_)) => "dict",
        Argument::Linked(Slot::Pictures(_)) => "Tensor",
        Argument::Linked(Slot::Text(_)) => "str",
    };
    Failure::raised(
        "AttributeError",
        format!("'{class}' object has no attribute '{attribute}'"),
    )
}

/// The failure of a node that wants more memory than there is.
pub(crate) fn out_of_memory() -> Failure {
    Failure::raised(
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory",
    )
}

/// A picture batch of one frame repeated.
pub(crate) fn repeated(width: u32, height: u32, frame: Vec<u8>, batch: u64) -> Pictures {
    let frame: Arc<[u8]> = frame.into();
    let count = usize::try_from(batch).unwrap_or(usize::MAX);
    Pictures {
        width,
        height,
        frames: std::iter::repeat_n(frame, count).collect(),
    }
}
