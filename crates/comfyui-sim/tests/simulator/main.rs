//! The simulator over real sockets, held against what was recorded from the real server.

mod running;
mod support;
