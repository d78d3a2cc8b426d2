//! Real servers, started, stopped and killed.
//!
//! The tests look at processes through `/proc`.

#![cfg(target_os = "linux")]

mod in_use;
mod recovery;
mod support;
