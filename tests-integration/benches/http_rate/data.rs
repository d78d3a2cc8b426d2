//! What the databases hold: people, and workflows made in bulk.

use std::time::{Duration, SystemTime};

use atelier_domain::ids::UserId;
use atelier_domain::page::Cursor;
use atelier_domain::workflow::{WorkflowFilter, WorkflowScope};
use atelier_identity::{AccessToken, sign_access_token};
use atelier_tests_integration::people::JWT_SECRET;
use atelier_tests_integration::workflows::with_lora;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

/// How many people use the server, each on a connection of their own.
pub(crate) const PEOPLE: usize = 32;

/// How many workflows each of them has: 100 000 in all.
pub(crate) const WORKFLOWS_OF_EACH: u64 = 3_125;

/// The keys of two people's workflows are so far apart.
pub(crate) const KEYS_OF_EACH: u64 = 1_000_000;

/// The first part of everybody's id; the rest is the person's number.
pub(crate) const PERSON: &str = "00000000-0000-4000-8000-";

/// The first part of a workflow's id; the rest is its key.
pub(crate) const WORKFLOW: &str = "00000000-0000-0000-0000-";

/// When the first workflow was made; the others follow each second.
const BEGINNING: &str = "2026-01-01T00:00:00Z";

/// The token of a person, for as long as any bench may take.
pub(crate) fn token(number: usize) -> String {
    let id: Uuid = format!("{PERSON}{number:012}").parse().expect("a UUID");
    let token = AccessToken {
        user_id: UserId::new(id),
        email: None,
        issuer: None,
        issued_at: DateTime::from(SystemTime::now()),
        valid_for: Duration::from_hours(12),
    };
    sign_access_token(JWT_SECRET, token).expect("HS256 signs anything")
}

/// A graph of two kilobytes: Stable Diffusion 1.5 with a LoRA and a long prompt.
pub(crate) fn graph() -> Value {
    let mut graph = with_lora("watercolour.safetensors");
    let words = [
        "an old house by a lake",
        "soft morning light",
        "wet leaves",
        "35 mm film",
        "a boat at the pier",
        "mist over the water",
    ];
    let mut prompt = String::new();
    for (number, words) in words.iter().cycle().enumerate() {
        prompt.extend(["(", words, ":1.", &number.to_string(), "), "]);
        graph["6"]["inputs"]["text"] = json!(prompt);
        if graph.to_string().len() >= 2_048 {
            break;
        }
    }
    graph
}

/// Fills a database with what [`PEOPLE`] have, every twentieth workflow public.
pub(crate) fn of_people() -> String {
    filled(
        &format!(
            "select person * {KEYS_OF_EACH} + number as key, person as owner, number % 20 = 0 as public, \
               number * {PEOPLE} + person as second \
             from generate_series(0, {WORKFLOWS_OF_EACH} - 1) as number \
             cross join generate_series(0, {PEOPLE} - 1) as person"
        ),
        PEOPLE,
    )
}

/// Fills a database with so many workflows: a tenth is one person's, number 0, the rest is a hundred others'; of either
/// every twentieth is public.
pub(crate) fn of_one_in_many(rows: u64) -> String {
    filled(
        &format!(
            "select key, case when key % 10 = 0 then 0 else 1 + key % 100 end as owner, \
               (key / 10) % 20 = 0 as public, key as second from generate_series(0, {rows} - 1) as key"
        ),
        101,
    )
}

/// Puts rows in without the triggers, which would take minutes, and does what they would have done.
fn filled(rows: &str, people: usize) -> String {
    format!(
        "set session_replication_role = replica;
         insert into public.comfyui_users (id)
           select ('{PERSON}' || lpad(number::text, 12, '0'))::uuid from generate_series(0, {people} - 1) as number;
         insert into public.comfyui_workflows
             (id, user_id, name, description, workflow_json, is_public, tags, created_at, updated_at)
           select lpad(key::text, 32, '0')::uuid, ('{PERSON}' || lpad(owner::text, 12, '0'))::uuid,
             'House by a lake, number ' || key, 'Morning light; needs the watercolour LoRA.', '{}', public,
             '{{landscape,sd15}}', moment, moment
           from ({rows}) as row
           cross join lateral (select timestamptz '{BEGINNING}' + second * interval '1 second') as times (moment)
           order by second;
         reset session_replication_role",
        graph(),
    )
}

/// Where a list of `rows` workflows is half through.
pub(crate) fn half_way(rows: u64, scope: WorkflowScope) -> String {
    let beginning: DateTime<Utc> = BEGINNING.parse().expect("a moment");
    let seconds = i64::try_from(rows / 2).expect("it fits");
    let cursor = Cursor {
        created_at: beginning + TimeDelta::seconds(seconds),
        id: Uuid::max(),
    };
    let filter = WorkflowFilter {
        scope,
        ..WorkflowFilter::default()
    };
    cursor.encode(&filter.list_name())
}
