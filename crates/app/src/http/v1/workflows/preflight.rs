//! `GET /workflows/{id}/preflight`

use actix_web::{HttpResponse, web};
use atelier_application::runs::{
    LoraResolution, Preflight, PreflightBackend, PreflightLora, PreflightParameter,
};
use atelier_domain::validation::Violation;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::api::Api;
use crate::http::auth::ReadsWorkflows;
use crate::http::openapi::values::{BaseModelWord, ResolutionWord};
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// What would become of a run, without parameters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preflight)]
pub(crate) struct PreflightBody<'a> {
    /// Whether a run would be taken, and a backend could carry it out, as far as
    /// is known.
    can_run: bool,
    /// What keeps the workflow from being run as it stands. Parameters may mend
    /// some of it.
    #[schema(value_type = Vec<RemarkBody<'static>>)]
    faults: Vec<RemarkBody<'a>>,
    /// What would run, but perhaps not as meant.
    #[schema(value_type = Vec<RemarkBody<'static>>)]
    warnings: Vec<RemarkBody<'a>>,
    /// Every value that names a LoRA, and what it stands for.
    #[schema(value_type = Vec<LoraValueBody<'static>>)]
    loras: Vec<LoraValueBody<'a>>,
    /// What each backend lacks for it.
    #[schema(value_type = Vec<BackendBody<'static>>)]
    backends: Vec<BackendBody<'a>>,
    /// The parameters that the workflow declares.
    #[schema(value_type = Vec<ParameterBody<'static>>)]
    parameters: Vec<ParameterBody<'a>>,
}

/// Something about one place of the graph.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreflightRemark)]
pub(crate) struct RemarkBody<'a> {
    /// Where: a JSON pointer into the workflow.
    #[schema(example = "/workflow_json/10/inputs/lora_name")]
    pointer: &'a str,
    /// What.
    detail: &'a str,
}

/// A value that names a LoRA.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreflightLora)]
pub(crate) struct LoraValueBody<'a> {
    /// Where: a JSON pointer into the workflow.
    pointer: &'a str,
    /// The node.
    node_id: &'a str,
    /// Its class.
    class_type: &'a str,
    /// The value, where it is a name.
    value: Option<&'a str>,
    /// What it stands for; null where that is a fault, or not known while no
    /// backend has told what it offers.
    resolution: Option<ResolutionBody<'a>>,
}

/// What a value that names a LoRA stands for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraResolution)]
pub(crate) struct ResolutionBody<'a> {
    /// `own`, or `system` for one that ComfyUI itself offers; then the rest is
    /// null.
    #[schema(value_type = ResolutionWord)]
    kind: &'static str,
    /// The LoRA.
    lora_id: Option<Uuid>,
    /// Its filename.
    filename: Option<&'a str>,
    /// Which version of it.
    version: Option<u32>,
    /// Where it goes below ComfyUI's LoRA folder.
    comfyui_path: Option<String>,
    /// How large it is, in bytes.
    file_size: Option<u64>,
    /// The family of models that it is for.
    #[schema(value_type = Option<BaseModelWord>)]
    base_model: Option<&'static str>,
}

/// What one backend lacks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreflightBackend)]
pub(crate) struct BackendBody<'a> {
    /// Its name.
    name: &'a str,
    /// Whether it has told what it offers; if not, nothing is known to be
    /// missing.
    is_known: bool,
    /// Whether the graph can run there, as far as is known.
    can_run: bool,
    /// Classes of nodes that it does not have.
    #[schema(value_type = Vec<MissingBody<'static>>)]
    missing_classes: Vec<MissingBody<'a>>,
    /// Model files that it does not have.
    #[schema(value_type = Vec<MissingBody<'static>>)]
    missing_models: Vec<MissingBody<'a>>,
    /// How many bytes of LoRAs are to be copied to it before the run.
    bytes_to_sync: u64,
}

/// Something that a backend does not have.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreflightMissing)]
pub(crate) struct MissingBody<'a> {
    /// Where it is named: a JSON pointer into the workflow.
    pointer: &'a str,
    /// What it is called.
    name: &'a str,
}

/// A parameter that a workflow declares.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreflightParameter)]
pub(crate) struct ParameterBody<'a> {
    /// Its name.
    name: &'a str,
    /// The node that it sets an input of.
    node_id: &'a str,
    /// The input.
    input: &'a str,
    /// What the input holds unless it is set.
    default: &'a Value,
}

impl<'a> From<&'a Preflight> for PreflightBody<'a> {
    fn from(preflight: &'a Preflight) -> Self {
        let Preflight {
            faults,
            warnings,
            loras,
            backends,
            parameters,
        } = preflight;
        Self {
            can_run: preflight.can_run(),
            faults: faults.iter().map(RemarkBody::from).collect(),
            warnings: warnings.iter().map(RemarkBody::from).collect(),
            loras: loras.iter().map(LoraValueBody::from).collect(),
            backends: backends.iter().map(BackendBody::from).collect(),
            parameters: parameters.iter().map(ParameterBody::from).collect(),
        }
    }
}

impl<'a> From<&'a Violation> for RemarkBody<'a> {
    fn from(violation: &'a Violation) -> Self {
        let Violation { pointer, detail } = violation;
        Self { pointer, detail }
    }
}

impl<'a> From<&'a PreflightLora> for LoraValueBody<'a> {
    fn from(lora: &'a PreflightLora) -> Self {
        let PreflightLora {
            pointer,
            node_id,
            class_type,
            value,
            resolution,
        } = lora;
        Self {
            pointer,
            node_id,
            class_type,
            value: value.as_deref(),
            resolution: resolution.as_ref().map(ResolutionBody::from),
        }
    }
}

impl<'a> From<&'a LoraResolution> for ResolutionBody<'a> {
    fn from(resolution: &'a LoraResolution) -> Self {
        let LoraResolution::Own(lora) = resolution else {
            return Self {
                kind: "system",
                lora_id: None,
                filename: None,
                version: None,
                comfyui_path: None,
                file_size: None,
                base_model: None,
            };
        };
        let content = lora.content.as_ref();
        let base_model = content.and_then(|content| content.facts.base_model.as_ref());
        Self {
            kind: "own",
            lora_id: Some(lora.id.as_uuid()),
            filename: Some(lora.filename.as_str()),
            version: content.map(|content| content.version.number()),
            comfyui_path: content.map(|content| content.comfyui_path.to_string()),
            file_size: content.map(|content| content.file_size),
            base_model: base_model.map(|base_model| base_model.family.as_str()),
        }
    }
}

impl<'a> From<&'a PreflightBackend> for BackendBody<'a> {
    fn from(backend: &'a PreflightBackend) -> Self {
        let PreflightBackend {
            name,
            is_known,
            missing_classes,
            missing_models,
            bytes_to_sync,
        } = backend;
        Self {
            name,
            is_known: *is_known,
            can_run: backend.can_run(),
            missing_classes: missing_classes.iter().map(MissingBody::from).collect(),
            missing_models: missing_models.iter().map(MissingBody::from).collect(),
            bytes_to_sync: *bytes_to_sync,
        }
    }
}

impl<'a> From<&'a (String, String)> for MissingBody<'a> {
    fn from((pointer, name): &'a (String, String)) -> Self {
        Self { pointer, name }
    }
}

impl<'a> From<&'a PreflightParameter> for ParameterBody<'a> {
    fn from(parameter: &'a PreflightParameter) -> Self {
        let PreflightParameter {
            name,
            address,
            default,
        } = parameter;
        Self {
            name,
            node_id: address.node_id.as_str(),
            input: &address.input,
            default,
        }
    }
}

/// Says what would become of a run of a workflow, without running it.
#[utoipa::path(get, path = "/api/v1/comfyui/workflows/{id}/preflight", operation_id = "preflightWorkflow", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow's id.")),
    responses(
        (status = 200, description = "What would become of it.", body = PreflightBody<'static>)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsWorkflows(actor): ReadsWorkflows,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let preflight = api.preflight().execute(&actor, path.id()?).await?;
    Ok(HttpResponse::Ok().json(PreflightBody::from(&preflight)))
}
