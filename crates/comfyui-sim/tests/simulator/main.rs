//! The simulator over real sockets, held against what was recorded from the real server.

mod fixtures;
mod recorded;
mod running;
mod support;
