//! What a backend tells over its socket.

mod connector;
mod frame;
mod outbox;
mod socket;

pub(crate) use connector::Connector;
