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
        let current = version.is_current();
        // Saving nodes had no outputs in 0.3.64.
        let outputs: &[_] = if current || !self.output_node {
            &self.outputs
        } else {
            &[]
        };
        let by_version =
            |(now, then): (&'static str, &'static str)| if current { now } else { then };
        let is_v3 = self.shape == Shape::V3;
        let members = [
            ("input", Some(self.input_member(&choices))),
            ("input_order", Some(self.input_order())),
            ("is_input_list", current.then(|| json!(self.input_is_list))),
            (
                "output",
                Some(outputs.iter().map(|(kind, _)| *kind).collect()),
            ),
            (
                "output_is_list",
                Some(outputs.iter().map(|_| false).collect()),
            ),
            (
                "output_name",
                Some(outputs.iter().map(|(_, name)| *name).collect()),
            ),
            (
                "output_tooltips",
                (is_v3 || self.output_tooltips).then(|| json!([])),
            ),
            ("output_matchtypes", is_v3.then_some(Value::Null)),
            ("name", Some(json!(self.class_type))),
            ("display_name", Some(json!(by_version(self.display_name)))),
            ("description", Some(json!(""))),
            ("python_module", Some(json!(self.module))),
            ("category", Some(json!(by_version(self.category)))),
            ("output_node", Some(json!(self.output_node))),
        ];
        let remarks = if is_v3 {
            self.v3_remarks()
        } else {
            self.v1_remarks(current)
        };
        let named = members.into_iter().chain(remarks);
        Ordered(
            named
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
        )
    }

    fn v1_remarks(&self, current: bool) -> Vec<(&'static str, Option<Value>)> {
        vec![
            ("has_intermediate_output", current.then_some(json!(false))),
            ("experimental", self.experimental.then_some(json!(true))),
            ("search_aliases", current.then(|| json!([]))),
            (
                "essentials_category",
                self.essentials
                    .filter(|_| current)
                    .map(|category| json!(category)),
            ),
        ]
    }

    fn v3_remarks(&self) -> Vec<(&'static str, Option<Value>)> {
        vec![
            ("deprecated", Some(json!(false))),
            ("experimental", Some(json!(self.experimental))),
            ("dev_only", Some(json!(false))),
            ("api_node", Some(json!(false))),
            ("price_badge", Some(Value::Null)),
            ("search_aliases", Some(Value::Null)),
            ("essentials_category", Some(json!(self.essentials))),
            ("has_intermediate_output", Some(json!(false))),
        ]
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
