//! The parameters that several operations have.
#![expect(
    dead_code,
    reason = "these describe what the handlers read from requests by themselves"
)]

use utoipa::IntoParams;

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParameters {
    /// How many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A request that may be sent twice and is carried out once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct RepeatableParameters {
    /// Sent again with the same key and body within 24 hours, the request is not
    /// carried out again: it gets the same answer. 1 to 255 visible ASCII
    /// characters, in quotes or without.
    #[param(
        rename = "Idempotency-Key",
        pattern = r#"^([!#-~][ -~]{0,254}|"([ !#-\[\]-~]|\\["\\]){1,255}")$"#,
        example = json!("\"8e03978e-40d5\"")
    )]
    idempotency_key: Option<String>,
}

/// A file that may be read in parts, and need not be read again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct FileParameters {
    /// Which bytes, such as `bytes=0-99`; several ranges at once, and what is no
    /// range, are answered with the whole.
    #[param(rename = "Range")]
    range: Option<String>,
    /// The `ETag` that the range is of.
    #[param(rename = "If-Range")]
    if_range: Option<String>,
    /// The `ETag` that one has.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}
