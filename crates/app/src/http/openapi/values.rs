//! The values that requests and answers are made of: what may stand there, told
//! from the rules that the domain keeps.
//!
//! None of these types holds anything: `#[schema(value_type = Name)]` gives a
//! member the schema.

use std::borrow::Cow;

use atelier_domain::api_token::Scope;
use atelier_domain::graph::{MAX_CLASS_TYPE_CHARS, MAX_GRAPH_NODES, MAX_NODE_ID_CHARS};
use atelier_domain::input::{InputFilename as InputName, InputFormat};
use atelier_domain::lora::{BaseModelFamily, BaseModelFilter, Confidence, LoraStatus};
use atelier_domain::output::OutputKind;
use atelier_domain::ports::CopyState;
use atelier_domain::run::{RunEventKind, RunFailureCode, RunPhase, RunStatus};
use atelier_domain::text;
use atelier_domain::workflow::WorkflowScope;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ArrayBuilder, Object, ObjectBuilder, Ref, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::problem::ProblemCode;

/// Some text, and no control characters.
const NAME: &str = r"^[^\x00-\x1F\x7F-\x9F]*[^\s\x00-\x1F\x7F-\x9F][^\x00-\x1F\x7F-\x9F]*$";
/// The same without commas, which separate tags.
const TAG: &str = r"^[^,\x00-\x1F\x7F-\x9F]*[^\s,\x00-\x1F\x7F-\x9F][^,\x00-\x1F\x7F-\x9F]*$";
/// No control characters but those of line breaks and tabulators.
const DESCRIPTION: &str = r"^[^\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F]*$";
/// No control characters.
const SEARCH: &str = r"^[^\x00-\x1F\x7F-\x9F]*$";
/// One segment of a path, not hidden, without blanks around it or a drive's
/// letter before it.
const LORA_FILENAME: &str = concat!(
    r"^(?![A-Za-z]:)[^./\\\s\x00-\x1F\x7F-\x9F][^/\\\x00-\x1F\x7F-\x9F]*",
    r"\.[sS][aA][fF][eE][tT][eE][nN][sS][oO][rR][sS]$"
);
/// One segment of a path, not hidden, without blanks around it, a drive's letter
/// before it or a bracket behind it.
const INPUT_FILENAME: &str = concat!(
    r"^(?![A-Za-z]:)[^./\\\s\x00-\x1F\x7F-\x9F]",
    r"([^/\\\x00-\x1F\x7F-\x9F]*[^/\\\]\s\x00-\x1F\x7F-\x9F])?$"
);
const LORA_HASH: &str = r"^(0x)?([0-9A-Fa-f]{10}|[0-9A-Fa-f]{12}|[0-9A-Fa-f]{64})$";

macro_rules! values {
    ($($(#[$documentation:meta])* $name:ident = $shown:literal, $schema:expr;)*) => {$(
        $(#[$documentation])*
        #[derive(Debug)]
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T($schema.into())
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($shown)
            }
        }
    )*};
}

values! {
    /// What a thing is called.
    Name = "Name", text(1, text::Name::MAX_CHARACTERS, NAME).description(Some("What it is called."));
    /// What a thing is for.
    Description = "Description", text(0, text::Description::MAX_CHARACTERS, DESCRIPTION)
        .description(Some("What it is for, for people; line breaks are kept."));
    /// A word to find a thing by.
    Tag = "Tag", text(1, text::Tags::MAX_CHARACTERS, TAG).description(Some("A word to find it by."));
    /// Words to find a thing by.
    Tags = "Tags", ArrayBuilder::new()
        .items(Ref::from_schema_name("Tag"))
        .max_items(Some(text::Tags::MAX_COUNT))
        .description(Some("Words to find it by; one that is there twice is kept once."));
    /// What a personal token may do.
    ScopeWord = "Scope", words(Scope::ALL.map(Scope::as_str));
    /// All that it may.
    Scopes = "Scopes", ArrayBuilder::new()
        .items(Ref::from_schema_name("Scope"))
        .min_items(Some(1))
        .max_items(Some(Scope::ALL.len()))
        .description(Some("One that is there twice is kept once."));
    /// A text that is looked for.
    SearchText = "SearchText", text(0, text::Name::MAX_CHARACTERS, SEARCH);
    /// A tag that is looked for.
    SearchTag = "SearchTag", text(0, text::Tags::MAX_CHARACTERS, SEARCH);
    /// The name of a LoRA file.
    LoraFilename = "LoraFilename", text(1, 200, LORA_FILENAME).description(Some(
        "The name that workflows use: at most 200 bytes in UTF-8, ending in `.safetensors`.",
    ));
    /// The name of an input picture.
    InputFilename = "InputFilename", text(1, InputName::MAX_BYTES, INPUT_FILENAME).description(Some(
        "The name that workflows use: at most 200 bytes in UTF-8.",
    ));
    /// What an input picture is.
    InputTypeWord = "InputContentType", words(InputFormat::ALL.map(InputFormat::content_type));
    /// A hash that a LoRA file is known by.
    LoraHashText = "LoraHash", ObjectBuilder::new().schema_type(Type::String).pattern(Some(LORA_HASH));
    /// A graph as ComfyUI runs it.
    Prompt = "Prompt", prompt();
    /// One node of it.
    PromptNode = "PromptNode", prompt_node();
    /// Whose workflows.
    WorkflowScopeWord = "WorkflowScope", words([WorkflowScope::All, WorkflowScope::Own, WorkflowScope::Public].map(WorkflowScope::as_str))
        .default(Some(WorkflowScope::default().as_str().into()));
    /// Where a run stands.
    RunStatusWord = "RunStatus", words(RunStatus::ALL.map(RunStatus::as_str));
    /// What a run's worker is doing.
    RunPhaseWord = "RunPhase", words(RunPhase::ALL.map(RunPhase::as_str));
    /// What sort of failure ended a run.
    RunFailureWord = "RunFailureCode", words(RunFailureCode::ALL.iter().map(|code| code.as_str()));
    /// What sort of thing happened to a run.
    RunEventWord = "RunEventKind", words(
        RunEventKind::ALL.iter().map(|kind| kind.as_str()).chain(["end", "preview"]),
    );
    /// What sort of file an output is.
    OutputKindWord = "OutputKind", words(OutputKind::ALL.map(OutputKind::as_str));
    /// Where a LoRA stands.
    LoraStatusWord = "LoraStatus", words(LoraStatus::ALL.map(LoraStatus::as_str));
    /// Where a LoRA's bytes come from.
    LoraSourceWord = "LoraSourceKind", words(["upload", "google_drive", "url"]);
    /// A family of models.
    BaseModelWord = "BaseModel", words(BaseModelFamily::ALL.map(BaseModelFamily::as_str));
    /// A family of models, or none.
    BaseModelSearch = "BaseModelSearch", words(
        BaseModelFamily::ALL
            .iter()
            .map(|family| BaseModelFilter::Family(*family).as_str())
            .chain([BaseModelFilter::Unknown.as_str()]),
    );
    /// How sure a family is.
    ConfidenceWord = "Confidence", words(Confidence::ALL.map(Confidence::as_str));
    /// Whether a backend has a LoRA.
    CopyStateWord = "LoraCopyState", words(CopyState::ALL.map(CopyState::as_str));
    /// What a value that names a LoRA stands for.
    ResolutionWord = "LoraResolutionKind", words(["own", "system"]);
    /// What sort of problem.
    ProblemWord = "ProblemCode", words(ProblemCode::ALL.iter().map(|code| code.slug()));
    /// A SHA-256 or BLAKE3 digest.
    Digest = "Digest", ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[0-9a-f]{64}$"));
    /// A time as HTTP writes it.
    HttpTime = "HttpTime", ObjectBuilder::new().schema_type(Type::String).pattern(Some(
        "^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$",
    ));
    /// The version of the upload protocol.
    TusVersion = "TusVersion", words([crate::http::tus::VERSION]);
    /// The strong entity tag of a revision.
    RevisionTag = "RevisionTag", ObjectBuilder::new().schema_type(Type::String).pattern(Some("^\"[0-9]+\"$"));
    /// The strong entity tag of bytes.
    DigestTag = "DigestTag", ObjectBuilder::new().schema_type(Type::String).pattern(Some("^\"[0-9a-f]{64}\"$"));
}

fn text(shortest: usize, longest: usize, pattern: &str) -> ObjectBuilder {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(longest))
        .pattern(Some(pattern));
    match shortest {
        0 => text,
        shortest => text.min_length(Some(shortest)),
    }
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
}

fn prompt() -> ObjectBuilder {
    let node_id = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_NODE_ID_CHARS));
    let mut prompt = Object::new();
    prompt.min_properties = Some(1);
    prompt.max_properties = Some(MAX_GRAPH_NODES);
    prompt.property_names = Some(Box::new(Schema::Object(node_id.build())));
    prompt.additional_properties = Some(Box::new(AdditionalProperties::RefOr(RefOr::Ref(
        Ref::from_schema_name("PromptNode"),
    ))));
    prompt.description = Some(
        "A prompt in ComfyUI's API format (in ComfyUI: Workflow, Export (API)): nodes by their ids. \
         Every link leads to a node that is there."
            .to_owned(),
    );
    ObjectBuilder::from(prompt)
}

fn prompt_node() -> ObjectBuilder {
    let class_type = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_CLASS_TYPE_CHARS))
        .description(Some("The class that ComfyUI runs."));
    let inputs = ObjectBuilder::new().description(Some(
        "Inputs by name: values, or links `[node id, number of its output]`.",
    ));
    let meta = ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::SchemaType::AnyValue)
        .description(Some(
            "What ComfyUI's editor keeps with the node, such as its `title`. `parameters` gives inputs of the node names \
             for `input_params`.",
        ));
    ObjectBuilder::new()
        .property("class_type", class_type)
        .required("class_type")
        .property("inputs", inputs)
        .required("inputs")
        .property("_meta", meta)
}
