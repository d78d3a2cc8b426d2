//! The database refuses every word that the domain does not know, and no other.

use std::collections::BTreeSet;

use atelier_domain::api_token::Scope;
use atelier_domain::input::InputFormat;
use atelier_domain::lora::LoraStatus;
use atelier_domain::output::OutputKind;
use atelier_domain::run::{RunEventKind, RunFailureCode, RunPhase, RunStatus};

use crate::support::{Database, Kind, scalar};

#[tokio::test(flavor = "multi_thread")]
async fn checks_hold_the_words_of_the_domain() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    for (constraint, words) in [
        (
            "comfyui_workflow_runs_status_check",
            RunStatus::ALL.map(RunStatus::as_str).to_vec(),
        ),
        (
            "comfyui_workflow_runs_phase_check",
            // A phase is for running runs only, which the same constraint says.
            RunPhase::ALL
                .map(RunPhase::as_str)
                .into_iter()
                .chain([RunStatus::Running.as_str()])
                .collect(),
        ),
        (
            "comfyui_workflow_runs_error_code_check",
            RunFailureCode::ALL
                .iter()
                .map(|code| code.as_str())
                .collect(),
        ),
        (
            "comfyui_run_events_kind_check",
            RunEventKind::ALL.map(RunEventKind::as_str).to_vec(),
        ),
        (
            "comfyui_run_outputs_kind_check",
            OutputKind::ALL.map(OutputKind::as_str).to_vec(),
        ),
        (
            "comfyui_lora_models_status_check",
            LoraStatus::ALL.map(LoraStatus::as_str).to_vec(),
        ),
        (
            "comfyui_api_tokens_scopes_check",
            Scope::ALL.map(Scope::as_str).to_vec(),
        ),
        (
            "comfyui_inputs_content_type_check",
            InputFormat::ALL.map(InputFormat::content_type).to_vec(),
        ),
    ] {
        let sql = format!(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = '{constraint}'"
        );
        let definition = scalar(&admin, &sql).await.unwrap_or_default();

        // Every second piece stands between quotes.
        let found: BTreeSet<&str> = definition.split('\'').skip(1).step_by(2).collect();

        assert_eq!(found, words.into_iter().collect(), "{constraint}");
    }
}

/// What somebody writes past the server, through Supabase's Data API, must not break a list for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_domain_cannot_read_cannot_be_stored() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    for (column, bad) in [
        ("name", "''"),
        ("name", "E'\\u00a0\\u2003 '"),
        ("name", "repeat('x', 201)"),
        ("name", "E'a\\nb'"),
        ("name", "E'a\\u0085b'"),
        ("description", "repeat('x', 10001)"),
        ("description", "E'a\\u0007b'"),
        ("tags", "array['']"),
        ("tags", "array[' ']"),
        ("tags", "array[E'\\u2003']"),
        ("tags", "array['a,b']"),
        ("tags", "array[null]::text[]"),
        ("tags", "array[repeat('x', 65)]"),
        ("tags", "array_fill('x'::text, array[33])"),
        ("tags", "array[array['a'], array['b']]"),
        ("created_at", "'infinity'"),
        ("created_at", "'-infinity'"),
        ("created_at", "'20000-01-01'"),
        ("updated_at", "'infinity'"),
        ("revision", "0"),
    ] {
        let (name, columns) = if column == "name" {
            (bad, String::new())
        } else {
            ("'a'", format!(", {column}"))
        };
        let value = if column == "name" {
            String::new()
        } else {
            format!(", {bad}")
        };
        let sql = format!(
            "insert into public.comfyui_workflows (id, user_id, workflow_json, name{columns})
             values (gen_random_uuid(), gen_random_uuid(), '{{}}', {name}{value})"
        );

        let error = admin.batch_execute(&sql).await.unwrap_err();

        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(
            code.as_deref(),
            Some("23514"),
            "{column} = {bad}: {error:?}"
        );
    }
    for good in ["array['a', 'ü b', 'x.y']", "'{}'", "array[repeat('ü', 64)]"] {
        let sql = format!(
            "insert into public.comfyui_workflows (id, user_id, workflow_json, name, description, tags)
             values (gen_random_uuid(), gen_random_uuid(), '{{}}', repeat('ü', 200), E'a\\n\\tb', {good})"
        );
        admin.batch_execute(&sql).await.unwrap();
    }
}
