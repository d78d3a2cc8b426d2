//! A private PostgreSQL server for one machine: no container, no service, no port.
//!
//! [`Cluster::start`] finds the server programs (or brings them, see [`BinarySearch`]), makes a
//! cluster in a directory of its own and runs it, reachable only through a socket in a private
//! directory. It works as root too, where PostgreSQL itself refuses to run: the server then runs as
//! `postgres`, or as `nobody`.
//!
//! ```no_run
//! use atelier_local_postgres::{Cluster, ClusterOptions};
//!
//! let options = ClusterOptions::new(".atelier/postgres");
//! let cluster = Cluster::start(&options, &mut |step| println!("{step}"))?;
//! println!("{}", cluster.url("postgres"));
//! cluster.stop()?;
//! # Ok::<(), atelier_local_postgres::Error>(())
//! ```
//!
//! Tests take [`Cluster::throw_away`]: a cluster in a temporary directory, without durability. Put
//! it in a `static` and never think of it again: the server ends with the test process, and the
//! next start of any cluster by the same user removes what a killed process left behind.
//!
//! # What ends the server
//! [`Cluster::stop`], dropping the [`Cluster`], or the death of this process by any means,
//! `SIGKILL` included (Linux: the kernel signals the server). Ctrl-C in the terminal does not reach
//! it, so that the application can finish its requests first.
//!
//! # Platforms
//! Linux is what this crate is tested on. Other Unix systems compile the same code without the two
//! parts that need Linux: there a server survives when its parent is killed (not when it ends
//! normally with the cluster dropped), and the next start on the same directory stops it.

mod account;
mod acquire;
mod binaries;
mod cluster;
mod directory;
mod error;
mod launch;
mod lock;
mod options;
mod orphan;
mod process;
mod step;
mod temporary;
mod wheel;

pub use binaries::{Binaries, BinarySearch};
pub use cluster::Cluster;
pub use error::Error;
pub use options::{ClusterOptions, Durability};
pub use step::Step;
