use atelier_domain::text::{Description, Name, Tags};

use super::UploadLoraError;
use crate::fields::Fields;

/// What the owner says of a LoRA, unchecked; in a multipart body it may come
/// before or after the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraDetails {
    /// What it is called; the file's name without its extension where there is
    /// none.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
}

/// The same, checked.
pub(super) struct CheckedDetails {
    pub(super) name: Option<Name>,
    pub(super) description: Option<Description>,
    pub(super) tags: Tags,
}

impl LoraDetails {
    pub(super) fn check(&self) -> Result<CheckedDetails, UploadLoraError> {
        let mut fields = Fields::default();
        let name = match &self.name {
            None => Some(None),
            Some(name) => fields.name(name).map(Some),
        };
        let description = fields.description(self.description.as_deref());
        let tags = fields.tags(&self.tags);
        match (name, description, tags) {
            (Some(name), Some(description), Some(tags)) => Ok(CheckedDetails {
                name,
                description,
                tags,
            }),
            _ => Err(UploadLoraError::Invalid(fields.into_violations())),
        }
    }
}
