use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::graph::{Address, NodePolicy, PromptGraph, has_model_extension};
use atelier_domain::ids::{LoraId, RunId, WorkflowId};
use atelier_domain::lora::{BaseModel, BaseModelFamily, Lora};
use atelier_domain::ports::{
    CopyState, IdGen, InputRepo, LoraCatalogue, LoraCopies, LoraCopy, LoraRepo, RepoError,
    WorkflowRepo,
};
use atelier_domain::validation::Violation;
use serde_json::Value;
use thiserror::Error;
use tokio::time::timeout;

use super::file_references::FileReferences;
use super::judging::{GRAPH, Judging, under_graph};
use super::lora_references::{LoraMeaning, LoraReferences, Resolved};
use crate::catalogue::CatalogueCache;
use crate::opaque::opaque_debug;

/// A catalogue of this age is asked for again before it is answered from.
const FRESH: Duration = Duration::from_secs(30);

/// How long the backends are waited for.
const PATIENCE: Duration = Duration::from_secs(4);

/// What would become of a run, without running.
#[derive(Clone, Debug, PartialEq)]
pub struct Preflight {
    /// What keeps the workflow from being run as it stands; pointers
    /// `/workflow_json/{node}/inputs/{input}`, and `/workflow_json/{node}/class_type`
    /// for nodes that may not be used. Parameters may mend some of it.
    pub faults: Vec<Violation>,
    /// What would run, but perhaps not as meant; pointers as above.
    pub warnings: Vec<Violation>,
    /// Every value that names a LoRA, and what it stands for.
    pub loras: Vec<PreflightLora>,
    /// What each backend lacks for it.
    pub backends: Vec<PreflightBackend>,
    /// The parameters that the workflow takes.
    pub parameters: Vec<PreflightParameter>,
}

/// A value that names a LoRA.
#[derive(Clone, Debug, PartialEq)]
pub struct PreflightLora {
    /// Where it stands, `/workflow_json/{node}/inputs/{input}`.
    pub pointer: String,
    /// The node.
    pub node_id: String,
    /// Its class.
    pub class_type: String,
    /// The value, where it is a name.
    pub value: Option<String>,
    /// What it stands for; `None` where that is a fault, or not known while no
    /// backend has told what it offers.
    pub resolution: Option<LoraResolution>,
}

/// What a value that names a LoRA stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum LoraResolution {
    /// A LoRA of the actor's.
    Own(Box<Lora>),
    /// A file that ComfyUI itself offers.
    System,
}

/// What one backend lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreflightBackend {
    /// Its name.
    pub name: String,
    /// Whether it has told what it offers; if not, nothing is known to be
    /// missing.
    pub is_known: bool,
    /// Classes of the graph that it does not have, with the pointers of their
    /// nodes.
    pub missing_classes: Vec<(String, String)>,
    /// Model files of the graph that it does not have, with the pointers of the
    /// values.
    pub missing_models: Vec<(String, String)>,
    /// How many bytes of LoRAs have to be copied to it before the run.
    pub bytes_to_sync: u64,
}

impl PreflightBackend {
    /// Whether the graph can run there, as far as is known.
    pub fn can_run(&self) -> bool {
        self.missing_classes.is_empty() && self.missing_models.is_empty()
    }
}

/// A parameter that a workflow takes.
#[derive(Clone, Debug, PartialEq)]
pub struct PreflightParameter {
    /// Its name.
    pub name: String,
    /// The input that it sets.
    pub address: Address,
    /// What the input holds unless it is set.
    pub default: Value,
}

/// Why a workflow was not looked at.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// There is no such workflow, or the actor does not see it.
    #[error("there is no such workflow")]
    WorkflowNotFound,
    /// A repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Says what would become of a run.
#[derive(Clone)]
pub struct PreflightWorkflow {
    /// Where the workflow is read.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Where the actor's LoRAs are looked up.
    pub loras: Arc<dyn LoraRepo>,
    /// Where the actor's pictures are looked up.
    pub inputs: Arc<dyn InputRepo>,
    /// Which nodes may be used.
    pub policy: Arc<NodePolicy>,
    /// Which backends have them already.
    pub copies: Arc<dyn LoraCopies>,
    /// What the backends offer.
    pub catalogue: Arc<CatalogueCache>,
    /// Names a run that never is.
    pub ids: Arc<dyn IdGen>,
}

opaque_debug!(PreflightWorkflow);

impl PreflightWorkflow {
    /// Looks at a workflow as the actor would run it, without parameters.
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id(), workflow.id = %id))]
    pub async fn execute(
        &self,
        actor: &Actor,
        id: WorkflowId,
    ) -> Result<Preflight, PreflightError> {
        let workflow = self.workflows.get(actor, id).await?;
        let workflow = workflow.ok_or(PreflightError::WorkflowNotFound)?;
        // Running late is no fault: what was known before is answered then.
        drop(timeout(PATIENCE, self.catalogue.refresh_if_older_than(FRESH)).await);
        let graph = match workflow.workflow_json.parse() {
            Ok(graph) => graph,
            Err(faults) => return Ok(Preflight::of_broken(under_graph(&faults))),
        };
        let references = LoraReferences {
            loras: self.loras.as_ref(),
            catalogue: &self.catalogue,
            actor,
        };
        let resolved = references.resolve(&graph).await?;
        let files = FileReferences {
            inputs: self.inputs.as_ref(),
            catalogue: &self.catalogue,
            actor,
        };
        let files = files.resolve(&graph).await?;
        let mut faults: Vec<Violation> = Vec::new();
        let judging = Judging {
            graph: &graph,
            loras: &resolved,
            files: &files,
            policy: &self.policy,
            owner: actor.user_id(),
            run: RunId::new(self.ids.new_id()),
        };
        judging.isolated(&mut faults);
        let ids = resolved.ids();
        let copies = if ids.is_empty() {
            Vec::new()
        } else {
            self.copies.states(actor, ids).await?
        };
        Ok(Preflight {
            faults,
            warnings: self.warnings(&graph, &resolved).await,
            loras: loras(&resolved),
            backends: self
                .catalogue
                .each()
                .into_iter()
                .map(|(name, catalogue)| {
                    backend(&graph, name, catalogue.as_deref(), &resolved, &copies)
                })
                .collect(),
            parameters: parameters(&graph),
        })
    }

    /// LoRAs of another family than the checkpoint's: they would do nothing, or
    /// nothing good.
    async fn warnings(&self, graph: &PromptGraph, resolved: &Resolved) -> Vec<Violation> {
        let Some(checkpoint) = graph.checkpoint() else {
            return Vec::new();
        };
        let has_family = resolved.loras.iter().any(|lora| base_model(lora).is_some());
        if !has_family {
            return Vec::new();
        }
        let Some(family) = self.catalogue.checkpoint_family(checkpoint).await else {
            return Vec::new();
        };
        let own = resolved.meanings.iter().filter_map(|(input, meaning)| {
            let LoraMeaning::Own(id) = meaning else {
                return None;
            };
            let lora = resolved.loras.iter().find(|lora| lora.id == *id)?;
            let made_for = base_model(lora)?;
            (made_for.family != family).then(|| {
                Violation::new(input.pointer.clone(), mismatch(made_for, family)).under(GRAPH)
            })
        });
        own.collect()
    }
}

fn mismatch(made_for: &BaseModel, family: BaseModelFamily) -> String {
    format!(
        "is a LoRA for {} ({} confidence: {}), but the checkpoint is {}",
        made_for.family.as_str(),
        made_for.confidence.as_str(),
        made_for.evidence,
        family.as_str()
    )
}

fn base_model(lora: &Lora) -> Option<&BaseModel> {
    lora.content.as_ref()?.facts.base_model.as_ref()
}

impl Preflight {
    fn of_broken(faults: Vec<Violation>) -> Self {
        Self {
            faults,
            warnings: Vec::new(),
            loras: Vec::new(),
            backends: Vec::new(),
            parameters: Vec::new(),
        }
    }

    /// Whether a run would be taken, and a backend could carry it out, as far as
    /// is known.
    pub fn can_run(&self) -> bool {
        self.faults.is_empty()
            && (self.backends.is_empty() || self.backends.iter().any(PreflightBackend::can_run))
    }
}

fn loras(resolved: &Resolved) -> Vec<PreflightLora> {
    let found = resolved.inputs.iter().map(|input| {
        let meaning = resolved
            .meanings
            .iter()
            .find(|(known, _)| known.location == input.location)
            .map(|(_, meaning)| meaning);
        let resolution = match meaning {
            Some(LoraMeaning::Own(id)) => resolved
                .loras
                .iter()
                .find(|lora| lora.id == *id)
                .map(|lora| LoraResolution::Own(Box::new(lora.clone()))),
            Some(LoraMeaning::System) => Some(LoraResolution::System),
            None => None,
        };
        PreflightLora {
            pointer: format!("{GRAPH}{}", input.pointer),
            node_id: input.node_id.as_str().to_owned(),
            class_type: input.class_type.clone(),
            value: input.value.name().ok().map(str::to_owned),
            resolution,
        }
    });
    found.collect()
}

fn backend(
    graph: &PromptGraph,
    name: &str,
    catalogue: Option<&LoraCatalogue>,
    resolved: &Resolved,
    copies: &[LoraCopy],
) -> PreflightBackend {
    let (missing_classes, missing_models) = catalogue.map_or_else(Default::default, |catalogue| {
        let (classes, mut models) = missing(graph, resolved, catalogue);
        models.extend(missing_system_loras(resolved, catalogue));
        (classes, models)
    });
    let present: BTreeSet<LoraId> = copies
        .iter()
        .filter(|copy| copy.backend == name && copy.state == CopyState::Present)
        .map(|copy| copy.lora_id)
        .collect();
    let lacking = resolved
        .loras
        .iter()
        .filter(|lora| !present.contains(&lora.id))
        .filter_map(|lora| Some(lora.content.as_ref()?.file_size));
    PreflightBackend {
        name: name.to_owned(),
        is_known: catalogue.is_some(),
        missing_classes,
        missing_models,
        bytes_to_sync: lacking.sum(),
    }
}

type Missing = Vec<(String, String)>;

/// Classes and model files that the backend does not have.
fn missing(
    graph: &PromptGraph,
    resolved: &Resolved,
    catalogue: &LoraCatalogue,
) -> (Missing, Missing) {
    let (mut classes, mut models) = (Vec::new(), Vec::new());
    // LoRAs are brought there.
    let loras: BTreeSet<&str> = resolved
        .inputs
        .iter()
        .map(|input| input.pointer.as_str())
        .collect();
    for (id, node) in graph.nodes() {
        let class_type = node.class_type();
        let of_input = |input: &str| {
            let input = input.to_owned();
            Address {
                node_id: id.clone(),
                input,
            }
        };
        if !catalogue.classes.contains(class_type) {
            let pointer = format!(
                "{GRAPH}/{}/class_type",
                atelier_domain::validation::pointer_token(id.as_str())
            );
            classes.push((pointer, class_type.to_owned()));
            continue;
        }
        for (input, value) in node.inputs() {
            let Some(value) = value.as_str() else {
                continue;
            };
            let key = (class_type.to_owned(), input.clone());
            let is_missing = catalogue
                .models
                .get(&key)
                .is_some_and(|options| !options.contains(value))
                // What offers nothing at all may be no model's.
                && has_model_extension(value);
            let pointer = of_input(input).pointer();
            if is_missing && !loras.contains(pointer.as_str()) {
                models.push((format!("{GRAPH}{pointer}"), value.to_owned()));
            }
        }
    }
    (classes, models)
}

/// LoRA files that another backend offers.
fn missing_system_loras(resolved: &Resolved, catalogue: &LoraCatalogue) -> Missing {
    let of_the_system = resolved
        .meanings
        .iter()
        .filter(|(_, meaning)| *meaning == LoraMeaning::System)
        .filter_map(|(input, _)| Some((input, input.value.name().ok()?)));
    of_the_system
        .filter(|(_, name)| !catalogue.files.contains(*name))
        .map(|(input, name)| (format!("{GRAPH}{}", input.pointer), name.to_owned()))
        .collect()
}

/// Those that the workflow declares. [`PromptGraph::parse`] has refused a graph
/// that declares what it does not have.
fn parameters(graph: &PromptGraph) -> Vec<PreflightParameter> {
    let declared = graph.declared_parameters().unwrap_or_default();
    let parameters = declared.into_iter().map(|(name, address)| {
        let node = graph.nodes().find(|(id, _)| **id == address.node_id);
        let default = node.and_then(|(_, node)| node.inputs().get(&address.input).cloned());
        PreflightParameter {
            name,
            default: default.unwrap_or(Value::Null),
            address,
        }
    });
    parameters.collect()
}
