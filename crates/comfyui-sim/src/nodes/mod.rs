//! The node classes. Each family has its file: what the class declares, and what it does.

mod call;
mod conditioning;
mod definition;
mod images;
mod loaders;
mod loras;
mod sampling;
mod saving;
mod text;
mod training;

use std::collections::HashMap;

pub(crate) use call::{Argument, Call, Failure, Produced, Slot};
pub(crate) use definition::{Choices, Definition, Input, Kind};
pub(crate) use images::{input_file, validate_input_file};

use crate::options::Version;

/// What a class does when it runs.
pub(crate) type Action = fn(&Call<'_>) -> Result<Produced, Failure>;

/// A node class.
#[derive(Debug)]
pub(crate) struct NodeClass {
    pub(crate) definition: Definition,
    pub(crate) action: Action,
}

/// All node classes of one version, by class name.
#[derive(Debug)]
pub(crate) struct Catalogue {
    classes: HashMap<&'static str, NodeClass>,
    names: Vec<&'static str>,
}

impl Catalogue {
    pub(crate) fn new(version: Version) -> Self {
        let families = [
            loaders::classes(),
            loras::classes(),
            conditioning::classes(),
            sampling::classes(),
            images::classes(),
            saving::classes(),
            text::classes(),
            training::classes(),
        ];
        let known = families
            .into_iter()
            .flatten()
            .filter(|class| version.is_current() || !class.definition.only_current);
        let mut names = Vec::new();
        let mut classes = HashMap::new();
        for class in known {
            names.push(class.definition.class_type);
            classes.insert(class.definition.class_type, class);
        }
        Self { classes, names }
    }

    pub(crate) fn get(&self, class_type: &str) -> Option<&NodeClass> {
        self.classes.get(class_type)
    }

    /// All classes, in the order in which they are declared.
    pub(crate) fn all(&self) -> impl Iterator<Item = &NodeClass> {
        self.names.iter().filter_map(|name| self.classes.get(name))
    }
}
