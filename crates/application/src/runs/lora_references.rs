//! What the LoRA values of a graph stand for (design contract, section 4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::graph::{LoraInput, LoraLocation, PromptGraph};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{
    Lora, LoraFilename, LoraFilter, LoraPath, LoraReference, LoraStatus, resolve_reference,
};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{LoraCatalogue, LoraName, LoraRepo, RepoError};
use atelier_domain::validation::Violation;
use tokio::time::timeout;

use crate::catalogue::{CatalogueCache, lora_input_table};

/// A catalogue of this age is asked for again before a file is said to be
/// missing from it.
const FRESH: Duration = Duration::from_secs(5);

/// How long the sender of a run is kept waiting for the catalogue.
const CATALOGUE_PATIENCE: Duration = Duration::from_secs(4);

/// Missing LoRAs whose state is looked up for the sake of a better answer.
const MAX_EXPLAINED: usize = 8;

/// What became of a graph's LoRA values.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Where the graph gets which path.
    pub(super) paths: Vec<(LoraLocation, String)>,
    /// The actor's LoRAs that the run needs, each once.
    pub(super) loras: Vec<Lora>,
    /// Every value that names a LoRA.
    pub(super) inputs: Vec<LoraInput>,
    /// What each value stands for, where that is known.
    pub(super) meanings: Vec<(LoraInput, LoraMeaning)>,
    /// What cannot be resolved; pointers relative to the graph.
    pub(super) violations: Vec<Violation>,
}

/// What a value stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LoraMeaning {
    /// A LoRA of the actor's.
    Own(LoraId),
    /// A file that ComfyUI itself offers.
    System,
}

impl Resolved {
    pub(super) fn ids(&self) -> Vec<LoraId> {
        self.loras.iter().map(|lora| lora.id).collect()
    }
}

/// Resolves LoRA values for one person.
pub(super) struct LoraReferences<'a> {
    pub(super) loras: &'a dyn LoraRepo,
    pub(super) catalogue: &'a CatalogueCache,
    pub(super) actor: &'a Actor,
}

/// A value that may be a file of ComfyUI's own.
struct PerhapsSystem {
    pointer: String,
    /// The actor has no ready LoRA of this name.
    filename: Option<LoraFilename>,
}

/// One look at all values.
#[derive(Default)]
struct Pass {
    resolved: Resolved,
    /// Not in the catalogue, or there is no catalogue.
    unsure: Vec<PerhapsSystem>,
    /// Only a LoRA of the actor's would do.
    missing: Vec<(String, LoraFilename)>,
}

impl LoraReferences<'_> {
    pub(super) async fn resolve(&self, graph: &PromptGraph) -> Result<Resolved, RepoError> {
        let known = self.catalogue.known();
        let mut pass = self.look(graph, known.as_deref()).await?;
        let mut known = known;
        if !pass.unsure.is_empty() {
            // Running late is no fault: the file is asked for again at dispatch.
            let _late = timeout(
                CATALOGUE_PATIENCE,
                self.catalogue.refresh_if_older_than(FRESH),
            )
            .await;
            let refreshed = self.catalogue.known();
            if !same(known.as_ref(), refreshed.as_ref()) {
                pass = self.look(graph, refreshed.as_deref()).await?;
                known = refreshed;
            }
        }
        let Pass {
            mut resolved,
            unsure,
            mut missing,
        } = pass;
        for value in unsure {
            match value.filename {
                _ if known.is_none() => {}
                Some(filename) => missing.push((value.pointer, filename)),
                None => resolved.violations.push(Violation::new(
                    value.pointer,
                    "names no LoRA of yours and none that ComfyUI offers",
                )),
            }
        }
        self.explain(missing, &mut resolved.violations).await?;
        Ok(resolved)
    }

    async fn look(
        &self,
        graph: &PromptGraph,
        catalogue: Option<&LoraCatalogue>,
    ) -> Result<Pass, RepoError> {
        let inputs = graph.lora_inputs(&lora_input_table(catalogue));
        let mut pass = Pass::default();
        pass.resolved.inputs.clone_from(&inputs);
        let mut references = Vec::new();
        for input in inputs {
            match input.value.name() {
                Ok(name) => {
                    let reference = resolve_reference(name, self.actor.user_id());
                    references.push((name.to_owned(), reference, input));
                }
                Err(detail) => pass.refuse(&input, detail),
            }
        }
        let owned = self.owned(&references).await?;
        for (value, reference, input) in references {
            pass.judge(&value, reference, &input, &owned, catalogue);
        }
        Ok(pass)
    }

    /// The actor's ready LoRAs that the references could mean.
    async fn owned(
        &self,
        references: &[(String, LoraReference, LoraInput)],
    ) -> Result<Owned, RepoError> {
        let names: BTreeSet<LoraName> = references
            .iter()
            .flat_map(|(_, reference, _)| match reference {
                LoraReference::Own(filename) => vec![LoraName::Latest(filename.clone())],
                LoraReference::OwnVersion(filename, version) => {
                    vec![LoraName::Version(filename.clone(), *version)]
                }
                LoraReference::OwnPath(path) => {
                    let as_filename = LoraFilename::parse(path.file()).ok();
                    let mut names = vec![LoraName::At(path.clone())];
                    names.extend(as_filename.map(LoraName::Latest));
                    names
                }
                LoraReference::Foreign { .. } | LoraReference::Other(_) => Vec::new(),
            })
            .collect();
        if names.is_empty() {
            return Ok(Owned::default());
        }
        let ready = self
            .loras
            .find_ready(self.actor, names.into_iter().collect())
            .await?;
        Ok(Owned(ready))
    }

    /// Says of each missing LoRA why it cannot be used.
    async fn explain(
        &self,
        missing: Vec<(String, LoraFilename)>,
        violations: &mut Vec<Violation>,
    ) -> Result<(), RepoError> {
        let mut words: BTreeMap<LoraFilename, &'static str> = BTreeMap::new();
        for (pointer, filename) in missing {
            let detail = match words.get(&filename) {
                Some(detail) => detail,
                None if words.len() < MAX_EXPLAINED => {
                    let detail = self.why_not_ready(&filename).await?;
                    words.insert(filename, detail);
                    detail
                }
                None => NOT_FOUND,
            };
            violations.push(Violation::new(pointer, detail));
        }
        Ok(())
    }

    async fn why_not_ready(&self, filename: &LoraFilename) -> Result<&'static str, RepoError> {
        let filter = LoraFilter {
            text: Some(filename.as_str().to_owned()),
            ..LoraFilter::default()
        };
        let page = self
            .loras
            .list(self.actor, filter, PageRequest::default())
            .await?;
        let status = page
            .items
            .iter()
            .find(|lora| lora.filename == *filename)
            .map(|lora| lora.status);
        Ok(match status {
            Some(LoraStatus::Uploading) => {
                "names a LoRA of yours that is still being uploaded; try again when it is ready"
            }
            Some(LoraStatus::Importing) => {
                "names a LoRA of yours that is still being imported; try again when it is ready"
            }
            Some(LoraStatus::Failed) => {
                "names a LoRA of yours whose file never arrived; upload it again"
            }
            // Ready by now: the next try finds it.
            Some(LoraStatus::Ready) => {
                "names a LoRA of yours that has just become ready; try again"
            }
            None => NOT_FOUND,
        })
    }
}

const NOT_FOUND: &str = "names no LoRA of yours and none that ComfyUI offers; upload it first";

impl Pass {
    fn refuse(&mut self, input: &LoraInput, detail: &str) {
        self.resolved
            .violations
            .push(Violation::new(input.pointer.clone(), detail));
    }

    fn take(&mut self, input: &LoraInput, lora: &Lora, path: &LoraPath) {
        self.resolved
            .paths
            .push((input.location.clone(), path.to_string()));
        self.mean(input, LoraMeaning::Own(lora.id));
        if self.resolved.loras.iter().all(|known| known.id != lora.id) {
            self.resolved.loras.push(lora.clone());
        }
    }

    fn mean(&mut self, input: &LoraInput, meaning: LoraMeaning) {
        self.resolved.meanings.push((input.clone(), meaning));
    }

    fn judge(
        &mut self,
        value: &str,
        reference: LoraReference,
        input: &LoraInput,
        owned: &Owned,
        catalogue: Option<&LoraCatalogue>,
    ) {
        let offered = || catalogue.is_some_and(|catalogue| catalogue.files.contains(value));
        match reference {
            LoraReference::Foreign { reason } => self.refuse(input, reason),
            LoraReference::OwnPath(path) => match owned.at_path(&path) {
                Some((lora, path)) => self.take(input, lora, path),
                None => self.refuse(input, "names no LoRA of yours; it was deleted"),
            },
            LoraReference::OwnVersion(filename, version) => {
                let found = owned.find(|lora, _| {
                    let content = lora.content.as_ref();
                    lora.filename == filename
                        && content.is_some_and(|content| content.version == version)
                });
                match found {
                    Some((lora, path)) => self.take(input, lora, path),
                    None => self.refuse(input, "names a version that no LoRA of yours has"),
                }
            }
            LoraReference::Own(filename) => match owned.named(&filename) {
                Some((lora, path)) => self.take(input, lora, path),
                None if value.contains('/') => self.missing.push((input.pointer.clone(), filename)),
                None if offered() => self.mean(input, LoraMeaning::System),
                None => self.unsure.push(PerhapsSystem {
                    pointer: input.pointer.clone(),
                    filename: Some(filename),
                }),
            },
            LoraReference::Other(_) if offered() => self.mean(input, LoraMeaning::System),
            LoraReference::Other(_) => self.unsure.push(PerhapsSystem {
                pointer: input.pointer.clone(),
                filename: None,
            }),
        }
    }
}

/// Ready LoRAs, by the ways to name them.
#[derive(Default)]
struct Owned(Vec<Lora>);

impl Owned {
    fn find(&self, is_meant: impl Fn(&Lora, &LoraPath) -> bool) -> Option<(&Lora, &LoraPath)> {
        self.0
            .iter()
            .filter(|lora| lora.status == LoraStatus::Ready)
            .filter_map(|lora| Some((lora, &lora.content.as_ref()?.comfyui_path)))
            .find(|(lora, path)| is_meant(lora, path))
    }

    fn named(&self, filename: &LoraFilename) -> Option<(&Lora, &LoraPath)> {
        self.find(|lora, _| lora.filename == *filename && lora.superseded_at.is_none())
    }

    /// As a path first, then as a file name that only looks like one.
    fn at_path(&self, wanted: &LoraPath) -> Option<(&Lora, &LoraPath)> {
        self.find(|_, path| path == wanted)
            .or_else(|| self.named(&LoraFilename::parse(wanted.file()).ok()?))
    }
}

fn same(before: Option<&Arc<LoraCatalogue>>, after: Option<&Arc<LoraCatalogue>>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
        (None, None) => true,
        _ => false,
    }
}
