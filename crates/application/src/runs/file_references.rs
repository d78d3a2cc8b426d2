//! What the input files of a graph stand for.

use std::collections::BTreeSet;

use atelier_domain::actor::Actor;
use atelier_domain::graph::{FileInput, FileLocation, FileValue, PromptGraph};
use atelier_domain::ids::InputId;
use atelier_domain::input::{Input, InputName, InputPath};
use atelier_domain::ports::{InputRepo, RepoError};
use atelier_domain::validation::Violation;

use crate::catalogue::{CatalogueCache, file_input_table};

/// What became of a graph's input files.
#[derive(Debug, Default)]
pub(super) struct ResolvedFiles {
    /// Where the graph gets which path.
    pub(super) paths: Vec<(FileLocation, InputPath)>,
    /// The actor's pictures that the run needs, each once.
    pub(super) inputs: Vec<Input>,
    /// What cannot be resolved; pointers relative to the graph.
    pub(super) violations: Vec<Violation>,
}

impl ResolvedFiles {
    pub(super) fn ids(&self) -> Vec<InputId> {
        self.inputs.iter().map(|input| input.id).collect()
    }
}

/// Resolves input files for one person.
pub(super) struct FileReferences<'a> {
    pub(super) inputs: &'a dyn InputRepo,
    pub(super) catalogue: &'a CatalogueCache,
    pub(super) actor: &'a Actor,
}

impl FileReferences<'_> {
    pub(super) async fn resolve(&self, graph: &PromptGraph) -> Result<ResolvedFiles, RepoError> {
        let table = file_input_table(self.catalogue.known().as_deref());
        let found = graph.file_inputs(&table, self.actor.user_id());
        let owned = self.owned(&found).await?;
        let mut resolved = ResolvedFiles::default();
        for file in found {
            match &file.value {
                FileValue::OwnOutput => {}
                FileValue::Refused(detail) => {
                    let violation = Violation::new(file.location.pointer(), *detail);
                    resolved.violations.push(violation);
                }
                FileValue::Name(name) => match meant(&owned, name) {
                    Some(input) => resolved.take(file.location, input),
                    None => resolved.violations.push(file.not_found()),
                },
            }
        }
        Ok(resolved)
    }

    async fn owned(&self, found: &[FileInput]) -> Result<Vec<Input>, RepoError> {
        let names: BTreeSet<InputName> = found
            .iter()
            .filter_map(|file| match &file.value {
                FileValue::Name(name) => Some(name.clone()),
                FileValue::OwnOutput | FileValue::Refused(_) => None,
            })
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        self.inputs
            .find(self.actor, names.into_iter().collect())
            .await
    }
}

impl ResolvedFiles {
    fn take(&mut self, location: FileLocation, input: &Input) {
        self.paths.push((location, input.comfyui_path.clone()));
        if self.inputs.iter().all(|known| known.id != input.id) {
            self.inputs.push(input.clone());
        }
    }
}

/// Older ones of a name may be among them, found by their paths.
fn meant<'a>(owned: &'a [Input], name: &InputName) -> Option<&'a Input> {
    let mut meant: Vec<&Input> = owned
        .iter()
        .filter(|input| match name {
            InputName::Latest(filename) => input.filename == *filename,
            InputName::At(path) => input.comfyui_path == *path,
        })
        .collect();
    meant.sort_by_key(|input| (input.created_at, input.id));
    meant.pop()
}
