//! Who signs in, as an identity provider says it.

use std::fmt;

use crate::ids::UserId;

/// Whom a good token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// A user of Supabase Auth.
    User(SupabaseUser),
    /// Somebody whom another provider vouches for, such as Cloudflare Access.
    External(ExternalIdentity),
    /// A program with credentials of its own, such as a service token of
    /// Cloudflare Access.
    Service(ServiceIdentity),
}

/// A user of Supabase Auth (`reference/platform/PROTOCOLS.md` section 2.2).
#[derive(Clone, PartialEq, Eq)]
pub struct SupabaseUser {
    /// The token's `sub`.
    pub user_id: UserId,
    /// The e-mail address, where the account has one.
    pub email: Option<String>,
}

/// Somebody as another provider knows them
/// (`reference/platform/PROTOCOLS.md` section 3).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ExternalIdentity {
    /// The provider, such as `https://team.cloudflareaccess.com`.
    pub issuer: String,
    /// What the provider calls them: never empty.
    pub subject: String,
    /// The e-mail address that the provider verified.
    pub email: String,
}

/// A program as another provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceIdentity {
    /// The provider.
    pub issuer: String,
    /// The client id of its credentials, such as `….access`.
    pub client_id: String,
}

/// Leaves the e-mail address out, so that it cannot reach a log.
impl fmt::Debug for SupabaseUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SupabaseUser")
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}

/// Leaves the e-mail address out, so that it cannot reach a log.
impl fmt::Debug for ExternalIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExternalIdentity")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// Whom an external identity stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityLink {
    /// Whom it always stood for.
    Known(UserId),
    /// From now on, the one person whose account has this confirmed e-mail
    /// address.
    Linked(UserId),
    /// From now on, a person who was made for it.
    Provisioned(UserId),
    /// Nobody: no account has the e-mail address, and none may be made; or the
    /// account is barred.
    Unknown,
    /// Nobody: several accounts have the e-mail address.
    Ambiguous,
    /// Nobody: the account with the e-mail address has another identity of this
    /// provider already. The provider may have given the address to somebody
    /// else.
    Taken,
}
