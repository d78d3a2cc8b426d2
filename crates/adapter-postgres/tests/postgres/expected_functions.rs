//! Who may call the functions of ours; `policies` holds it against the database.

/// What a trigger or another function calls, and nobody else.
const INNER: &str = "";
/// The server on behalf of a person.
const SERVER: &str = "atelier_writer";
const WORKER: &str = "service_role";
/// A person, by Supabase's Data API too, if it is told of the schema.
const PERSON: &str = "atelier_writer authenticated";

/// Each function by its name, and the roles that may call it.
pub(crate) const EXPECTED_FUNCTIONS: [(&str, &str); 25] = [
    ("announce_lora_transfer", INNER),
    ("announce_run", INNER),
    ("are_tags", "atelier_writer authenticated service_role"),
    ("audit", INNER),
    ("claim_lora_transfer", WORKER),
    ("claim_run", WORKER),
    ("earlier_request", SERVER),
    ("enqueue_run", SERVER),
    ("ensure_owner", INNER),
    ("finish_run", WORKER),
    ("has_accounts", INNER),
    ("idempotency_lock", SERVER),
    ("is_barred", WORKER),
    ("link_account", INNER),
    ("lock_own_queue", SERVER),
    ("lora_copies", PERSON),
    ("queue_figures", WORKER),
    ("queue_outlook", PERSON),
    ("raise_revision", INNER),
    ("record_run_change", INNER),
    ("request_lora_copies", SERVER),
    ("resolve_identity", WORKER),
    ("take_lora_path", "atelier_writer service_role"),
    ("usage", SERVER),
    ("use_api_token", WORKER),
];
