//! The web, with a guard at the door: LoRAs from the addresses that people
//! give, behind the [`RemoteSource`](atelier_domain::ports::RemoteSource) port.
//!
//! - [`WebDownloads`] imports from allow-listed hosts. What it asks for, and
//!   what it makes of the answers, is for Hugging Face and Civitai in
//!   particular, and right for every other host of files.
//! - [`GuardedClient`] is what it asks with, and what anything else asks with
//!   that goes where somebody's text says (`reference/platform/PROTOCOLS.md`
//!   section 8): no redirect is followed, no proxy is taken, and a connection
//!   is made to no address but those that were looked at.
//!
//! ```
//! use atelier_web::{GuardOptions, GuardedClient, UrlRefusal, leads_nowhere_public};
//! use reqwest::{Method, Url};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let client = GuardedClient::new(&GuardOptions::default()).expect("good options");
//!
//! let number = Url::parse("https://169.254.169.254/latest").expect("an address");
//! assert_eq!(client.judge(&number), Err(UrlRefusal::Number));
//!
//! let local = Url::parse("https://localhost/hook").expect("an address");
//! let request = client.request(Method::POST, local).expect("nothing to see in the text");
//! let error = request.send().await.expect_err("loopback is not public");
//! assert!(leads_nowhere_public(&error));
//! # }
//! ```

mod answer;
mod body;
mod disposition;
mod downloads;
mod guard;
mod hops;
mod host_rule;
mod link;
mod options;
mod resolver;
mod sites;
mod trouble;

pub use downloads::WebDownloads;
pub use guard::{GuardError, GuardOptions, GuardedClient, UrlRefusal};
pub use host_rule::{HostRule, InvalidHostRule};
pub use options::{WebOptions, WebOptionsError};
pub use resolver::{GuardedResolver, NotPublic, Resolver, SystemResolver, leads_nowhere_public};
