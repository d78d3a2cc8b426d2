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
    public.comfyui_lora_models (id) {
        id -> Uuid,
        user_id -> Uuid,
        name -> Text,
        filename -> Text,
        description -> Nullable<Text>,
        tags -> Array<Text>,
        status -> Text,
        source -> Text,
        google_drive_file_id -> Nullable<Text>,
        bytes_done -> Int8,
        bytes_total -> Nullable<Int8>,
        file_size -> Nullable<Int8>,
        sha256 -> Nullable<Text>,
        comfyui_path -> Nullable<Text>,
        base_model -> Nullable<Text>,
        trigger_words -> Array<Text>,
        metadata -> Json,
        error_code -> Nullable<Text>,
        error_message -> Nullable<Text>,
        blob_key -> Nullable<Text>,
        created_at -> Timestamptz,
        touched_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
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
