//! To be written.

pub mod validation;
