//! Typed ids: a [`RunId`] cannot be passed where a [`WorkflowId`] is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! typed_id {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        /// Writes the canonical form: lower case, hyphenated.
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), formatter)
            }
        }
    };
}

// Keep in alphabetical order.
typed_id! {
    /// Names an [`ApiToken`](crate::api_token::ApiToken).
    ApiTokenId
}
typed_id! {
    /// Names one claim of a run by one worker. Every write of the worker
    /// carries it; after the claim is lost, they all miss.
    ClaimToken
}
typed_id! {
    /// Names an [`Input`](crate::input::Input).
    InputId
}
typed_id! {
    /// Names a [`Lora`](crate::lora::Lora).
    LoraId
}
typed_id! {
    /// Names a [`Run`](crate::run::Run). It is also the `prompt_id` that
    /// ComfyUI is given.
    RunId
}
typed_id! {
    /// Names a person: the `sub` of a Supabase access token, or the user that
    /// a Cloudflare Access identity is linked to.
    UserId
}
typed_id! {
    /// Names a [`Workflow`](crate::workflow::Workflow).
    WorkflowId
}
