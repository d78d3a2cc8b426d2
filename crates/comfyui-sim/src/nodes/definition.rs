//! What a node class declares: its inputs, its outputs, and how `/object_info` shows it.

use serde_json::{Map, Value, json};

use crate::json::Ordered;
use crate::options::Version;

/// Which of the two notations a class uses for choices (`reference/comfyui/PROTOCOL.md` section 9).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Shape {
    /// `[[options], {…}]`
    #[default]
    V1,
    /// `["COMBO", {"options": […]}]`
    V3,
}

/// Where the options of a choice come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choices {
    Fixed(&'static [&'static str]),
    /// Some options, and those of them that 0.3.64 does not have.
    Growing(&'static [&'static str], &'static [&'static str]),
    /// The files of a model folder, at this moment.
    Folder(&'static str),
    /// The same, and `[None]`.
    FolderOrNone(&'static str),
    /// The files directly in the input folder, at this moment.
    InputFiles,
}

/// The type of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `INT`, `FLOAT`, `STRING`, `BOOLEAN`, or the name of a type that only links can carry; `*` takes everything.
    Typed(&'static str),
    Choice(Choices),
}

/// One declared input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// Minimum, maximum, default and the like; `None` where the class declares none.
    pub(crate) options: Option<Value>,
}

impl Input {
    fn option(&self, name: &str) -> Option<&Value> {
        self.options.as_ref()?.get(name)
    }

    pub(crate) fn minimum(&self) -> Option<&Value> {
        self.option("min")
    }

    pub(crate) fn maximum(&self) -> Option<&Value> {
        self.option("max")
    }
}

/// A declared node class.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is declared by the class on its own"
)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Definition {
    pub(crate) class_type: &'static str,
    /// The display name of the current version, and of 0.3.64.
    pub(crate) display_name: (&'static str, &'static str),
    /// The category of the current version, and of 0.3.64.
    pub(crate) category: (&'static str, &'static str),
    pub(crate) module: &'static str,
    pub(crate) shape: Shape,
    pub(crate) inputs: Vec<Input>,
    pub(crate) hidden: &'static [(&'static str, &'static str)],
    /// Type and name of each output.
    pub(crate) outputs: Vec<(&'static str, &'static str)>,
    pub(crate) output_node: bool,
    pub(crate) input_is_list: bool,
    pub(crate) experimental: bool,
    pub(crate) output_tooltips: bool,
    pub(crate) essentials: Option<&'static str>,
    /// Whether 0.3.64 has no such class.
    pub(crate) only_current: bool,
}

impl Definition {
    pub(crate) fn required(mut self, name: &'static str, kind: Kind) -> Self {
        self.inputs.push(Input {
            name,
            kind,
            required: true,
            options: None,
        });
        self
    }

    pub(crate) fn required_with(mut self, name: &'static str, kind: Kind, options: Value) -> Self {
        self.inputs.push(Input {
            name,
            kind,
            required: true,
            options: Some(options),
        });
        self
    }

    pub(crate) fn optional(mut self, name: &'static str, kind: Kind) -> Self {
        self.inputs.push(Input {
            name,
            kind,
            required: false,
            options: None,
        });
        self
    }

    /// The notation of one input, as errors quote it: always with an options object.
    pub(crate) fn input_config(&self, input: &Input, choices: Option<&[String]>) -> Value {
        let mut config = self.notation(input, choices);
        if let Some(members) = config.as_array_mut()
            && members.len() == 1
        {
            members.push(json!({}));
        }
        config
    }

    fn notation(&self, input: &Input, choices: Option<&[String]>) -> Value {
        let kind = match (input.kind, self.shape) {
            (Kind::Typed(name), _) => json!(name),
            (Kind::Choice(_), Shape::V1) => json!(choices.unwrap_or_default()),
            (Kind::Choice(_), Shape::V3) => json!("COMBO"),
        };
        let mut options = input.options.clone();
        if self.shape == Shape::V3 {
            let mut members = options
                .and_then(|options| options.as_object().cloned())
                .unwrap_or_default();
            if matches!(input.kind, Kind::Choice(_)) {
                members.insert("multiselect".to_owned(), json!(false));
                members.insert("options".to_owned(), json!(choices.unwrap_or_default()));
            }
            options = Some(Value::Object(members));
        }
        match options {
            Some(options) => json!([kind, options]),
            None => json!([kind]),
        }
    }

    /// What `/object_info` shows; `choices` reads the options of an input that has some.
    pub(crate) fn object_info(
        &self,
        version: Version,
        choices: impl Fn(Choices) -> Vec<String>,
    ) -> Ordered<Value> {
        let mut members = vec![
            ("input".to_owned(), self.input_member(&choices)),
            ("input_order".to_owned(), self.input_order()),
        ];
        let mut add = |name: &str, value: Value| members.push((name.to_owned(), value));
        let current = version.is_current();
        if current {
            add("is_input_list", json!(self.input_is_list));
        }
        // Saving nodes had no outputs in 0.3.64.
        let outputs: &[_] = if current || !self.output_node {
            &self.outputs
        } else {
            &[]
        };
        add("output", outputs.iter().map(|(kind, _)| *kind).collect());
        add("output_is_list", outputs.iter().map(|_| false).collect());
        add(
            "output_name",
            outputs.iter().map(|(_, name)| *name).collect(),
        );
        if self.shape == Shape::V3 {
            add("output_tooltips", json!([]));
            add("output_matchtypes", Value::Null);
        }
        add("name", json!(self.class_type));
        add(
            "display_name",
            json!(if current {
                self.display_name.0
            } else {
                self.display_name.1
            }),
        );
        add("description", json!(""));
        add("python_module", json!(self.module));
        add(
            "category",
            json!(if current {
                self.category.0
            } else {
                self.category.1
            }),
        );
        add("output_node", json!(self.output_node));
        if self.shape == Shape::V3 {
            add("deprecated", json!(false));
            add("experimental", json!(self.experimental));
            add("dev_only", json!(false));
            add("api_node", json!(false));
            add("price_badge", Value::Null);
            add("search_aliases", Value::Null);
            add("essentials_category", json!(self.essentials));
            add("has_intermediate_output", json!(false));
            return Ordered(members);
        }
        if current {
            add("has_intermediate_output", json!(false));
        }
        if self.output_tooltips {
            add("output_tooltips", json!([]));
        }
        if self.experimental {
            add("experimental", json!(true));
        }
        if current {
            add("search_aliases", json!([]));
            if let Some(essentials) = self.essentials {
                add("essentials_category", json!(essentials));
            }
        }
        Ordered(members)
    }

    fn input_member(&self, choices: &impl Fn(Choices) -> Vec<String>) -> Value {
        let group = |required: bool| -> Map<String, Value> {
            let inputs = self
                .inputs
                .iter()
                .filter(|input| input.required == required);
            inputs
                .map(|input| {
                    let options = match input.kind {
                        Kind::Choice(source) => Some(choices(source)),
                        Kind::Typed(_) => None,
                    };
                    (
                        input.name.to_owned(),
                        self.notation(input, options.as_deref()),
                    )
                })
                .collect()
        };
        let mut member = Map::new();
        member.insert("required".to_owned(), Value::Object(group(true)));
        let optional = group(false);
        if !optional.is_empty() {
            member.insert("optional".to_owned(), Value::Object(optional));
        }
        if !self.hidden.is_empty() {
            let notation = |kind: &str| {
                if self.shape == Shape::V3 {
                    json!([kind])
                } else {
                    json!(kind)
                }
            };
            let hidden: Map<_, _> = self
                .hidden
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), notation(kind)))
                .collect();
            member.insert("hidden".to_owned(), Value::Object(hidden));
        }
        Value::Object(member)
    }

    fn input_order(&self) -> Value {
        let names = |required: bool| -> Vec<&str> {
            self.inputs
                .iter()
                .filter(|input| input.required == required)
                .map(|input| input.name)
                .collect()
        };
        let mut order = Map::new();
        order.insert("required".to_owned(), json!(names(true)));
        if !names(false).is_empty() {
            order.insert("optional".to_owned(), json!(names(false)));
        }
        if !self.hidden.is_empty() {
            order.insert(
                "hidden".to_owned(),
                self.hidden.iter().map(|(name, _)| *name).collect(),
            );
        }
        Value::Object(order)
    }
}
