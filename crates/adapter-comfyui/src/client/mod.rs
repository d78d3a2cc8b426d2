//! One backend behind the port: the HTTP half.

mod backend;
mod cancel;
mod catalogue;
mod comfy_http;
mod input;
mod input_files;
mod offered;
mod output;
mod queue;
mod state;
mod submit;

pub use comfy_http::ComfyHttp;
