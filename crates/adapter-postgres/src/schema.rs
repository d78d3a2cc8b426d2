//! The tables, as the migrations make them.
//!
//! Only the columns that the query builder is used on; what a worker alone touches stands in hand-written statements.

diesel::table! {
    public.comfyui_workflows (id) {
        id -> Uuid,
        user_id -> Uuid,
        name -> Text,
        description -> Nullable<Text>,
        workflow_json -> Json,
        is_public -> Bool,
        tags -> Array<Text>,
        revision -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    public.comfyui_workflow_runs (id) {
        id -> Uuid,
        user_id -> Uuid,
        workflow_id -> Nullable<Uuid>,
        input_params -> Json,
        graph -> Json,
        nodes_total -> Int4,
        lora_ids -> Array<Uuid>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    public.comfyui_run_events (run_id, sequence) {
        run_id -> Uuid,
        sequence -> Int8,
        kind -> Text,
        data -> Json,
        created_at -> Timestamptz,
    }
}
