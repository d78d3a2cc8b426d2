//! What all imports have in common.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use atelier_application::loras::{
    ImportLora, ImportLoraError, ImportRequest, Imported, LoraDetails,
};
use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{IdempotentRequest, StoredAnswer};
use atelier_domain::lora::Lora;
use atelier_domain::ports::{RemoteError, RemoteToken};
use atelier_domain::validation::Violation;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};

use super::dto::{LoraBody, location};
use crate::http::idempotency::stored_response;
use crate::http::json::Members;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::{Description, LoraFilename, Name, Tags};
use crate::http::problem::{Problem, ProblemCode};

/// When to try again where nobody says.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a request says of the LoRA to be, whatever the source.
pub(super) struct Wishes {
    filename: Option<String>,
    details: LoraDetails,
    replaces: bool,
}

impl Wishes {
    pub(super) fn take(members: &mut Members<'_>) -> Self {
        Self {
            filename: members.optional("filename"),
            details: LoraDetails {
                name: members.optional("name"),
                description: members.optional("description"),
                tags: members.optional("tags").unwrap_or_default(),
            },
            replaces: members.optional("replace").unwrap_or_default(),
        }
    }
}

/// The members of a request that [`Wishes`] are read from.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Wishes::take` reads")]
struct WishesBody {
    /// The file's own unless told.
    #[schema(value_type = Option<LoraFilename>)]
    filename: Option<String>,
    /// The filename without its extension unless told.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    #[schema(value_type = Option<Description>)]
    description: Option<String>,
    #[schema(value_type = Option<Tags>)]
    tags: Option<Vec<String>>,
    /// Whether it becomes a new version of the LoRA of its filename, if there is
    /// one.
    replace: Option<bool>,
}

impl Wishes {
    /// The schema of a request that says them, and which file, by `reference`.
    pub(super) fn with(reference: &str, schema: ObjectBuilder) -> RefOr<Schema> {
        let mut wishes = WishesBody::schema();
        if let RefOr::T(Schema::Object(object)) = &mut wishes {
            object.description = Some("A file elsewhere, and what is to become of it.".to_owned());
            object
                .properties
                .insert(reference.to_owned(), schema.into());
            object.required.push(reference.to_owned());
        }
        wishes
    }
}

/// How a request for an import is answered.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes what `begin` and problems make")]
pub(crate) enum ImportAnswer {
    /// One has these very bytes under this filename.
    #[response(
        status = 200,
        headers(("Location" = String, description = "Where that LoRA is."))
    )]
    Same(LoraBody<'static>),
    /// The import is under way.
    #[response(
        status = 202,
        headers(
            ("Location" = String, description = "Where the LoRA is."),
            ("Idempotent-Replayed" = Option<bool>, description = "`true` where the request came before."),
        )
    )]
    Begun(LoraBody<'static>),
    #[response(status = 409)]
    Conflict(#[ref_response] ProblemResponse),
    #[response(status = 502)]
    Upstream(#[ref_response] ProblemResponse),
}

/// Where the file lies, for people and for their programs.
pub(super) struct Place {
    /// What it is called.
    pub(super) name: &'static str,
    /// The member of the request that names the file.
    pub(super) pointer: &'static str,
}

/// An import as it was asked for.
pub(super) struct Wanted {
    pub(super) reference: String,
    pub(super) wishes: Wishes,
    pub(super) token: Option<RemoteToken>,
    pub(super) once: Option<IdempotentRequest>,
}

/// Begins an import, and answers.
pub(super) async fn begin(
    import: &ImportLora,
    actor: &Actor,
    wanted: Wanted,
    place: &Place,
) -> Result<HttpResponse, Problem> {
    let Wishes {
        filename,
        details,
        replaces,
    } = wanted.wishes;
    let request = ImportRequest {
        reference: wanted.reference,
        filename,
        details,
        replaces,
        token: wanted.token,
        once: wanted.once.map(|request| (request, &importing as _)),
    };
    match import.execute(actor, request).await {
        Ok(Imported::Begun { lora, answer }) => Ok(stored_response(
            answer.unwrap_or_else(|| importing(&lora)),
            false,
        )),
        Ok(Imported::Replayed(answer)) => Ok(stored_response(answer, true)),
        Ok(Imported::Same(lora)) => Ok(HttpResponse::Ok()
            .insert_header((LOCATION, location(lora.id)))
            .json(LoraBody::from(lora.as_ref()))),
        Err(ImportLoraError::Remote(error)) => Err(remote_problem(error, place)),
        Err(error) => Err(error.into()),
    }
}

/// The answer to whoever asked for an import: 202, the LoRA, and where it is.
#[expect(clippy::expect_used, reason = "a LoRA is plain data with text keys")]
fn importing(lora: &Lora) -> StoredAnswer {
    StoredAnswer {
        status: 202,
        location: Some(location(lora.id)),
        body: serde_json::to_string(&LoraBody::from(lora)).expect("a LoRA is plain data"),
    }
}

/// What is wrong where the file lies, told at the member that names it.
fn remote_problem(error: RemoteError, place: &Place) -> Problem {
    let told = |code: ProblemCode, text: String| {
        let detail = sentence(&text);
        Problem::new(code, detail).with_errors(vec![Violation::new(place.pointer, text)])
    };
    match error {
        RemoteError::Invalid(text) => told(ProblemCode::Validation, text),
        RemoteError::NotFound(text) => told(ProblemCode::SourceNotFound, text),
        RemoteError::Refused(text) => told(ProblemCode::SourceRefused, text),
        RemoteError::Unauthorized(text) => told(ProblemCode::SourceUnauthorized, text),
        RemoteError::NotConfigured(text) => {
            Problem::new(ProblemCode::DriveNotConfigured, sentence(&text))
        }
        RemoteError::Changed => Problem::unavailable(
            "The file was changed while it was looked at; import it when it is finished.",
        ),
        RemoteError::Unavailable { retry_after, .. } => Problem::new(
            ProblemCode::Unavailable,
            format!("{} cannot be reached just now.", place.name),
        )
        .retry_after(
            retry_after
                .unwrap_or(RETRY_AFTER)
                .max(Duration::from_secs(1)),
        )
        .because(error),
        error => Problem::new(
            ProblemCode::UpstreamFailed,
            format!("{} gave an answer that makes no sense.", place.name),
        )
        .because(error),
    }
}

/// Makes a sentence of words that stand in the middle of one.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase);
    let mut sentence: String = first.into_iter().flatten().chain(characters).collect();
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_sentence() {
        assert_eq!(sentence("the file is empty"), "The file is empty.");
        assert_eq!(sentence("Done."), "Done.");
    }
}
