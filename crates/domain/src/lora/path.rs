//! Where LoRA files stand on a backend and in the blob store, and what a graph may mean by a LoRA's name.

use std::fmt;
use std::str::FromStr;

use unicode_normalization::is_nfc;
use uuid::Uuid;

use super::filename::{EXTENSION, LoraFilename, check};
use super::version::LoraVersion;
use crate::digest::Sha256Digest;
use crate::graph::path_fault;
use crate::ids::UserId;

/// Bytes of a versioned name: a stem of 188, a dot, 8 digits, the extension. With `.part` it stays well below the 255
/// that file systems take.
const MAX_BYTES: usize = 188 + 1 + 8 + EXTENSION.len();

const USER_MARK: &str = "user-";

/// The path of a LoRA below a backend's loras folder: `user-{uuid}/{file}`.
///
/// A backend never notices new bytes under an old name (`reference/comfyui/PROTOCOL.md` section 9), so a path is never
/// given to other bytes: the first content under a file name takes [`LoraPath::first`], later contents
/// [`LoraPath::versioned`]. Whether a path is taken already, the repository's uniqueness decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoraPath {
    owner: UserId,
    file: String,
}

/// The text is not the canonical path of a LoRA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a LoRA's path is user-{{uuid}}/{{file}}.safetensors")]
pub struct InvalidLoraPath;

impl LoraPath {
    /// The path of the first content that `owner` stores under `filename`.
    pub fn first(owner: UserId, filename: &LoraFilename) -> Self {
        Self {
            owner,
            file: filename.as_str().to_owned(),
        }
    }

    /// The path of other content under the same name: `{stem}.{first 8 of its SHA-256}.safetensors`.
    pub fn versioned(owner: UserId, filename: &LoraFilename, sha256: &Sha256Digest) -> Self {
        Self {
            owner,
            file: format!("{}.{}{EXTENSION}", filename.stem(), sha256.short8()),
        }
    }

    /// Reads a path in exactly the form in which it is written.
    ///
    /// # Errors
    /// Any other spelling of the user's folder, and any file that is no LoRA file.
    pub fn parse(text: &str) -> Result<Self, InvalidLoraPath> {
        let (folder, file) = text.split_once('/').ok_or(InvalidLoraPath)?;
        let owner = canonical_owner(folder).ok_or(InvalidLoraPath)?;
        if !is_nfc(file) || check(file, MAX_BYTES).is_err() {
            return Err(InvalidLoraPath);
        }
        Ok(Self {
            owner,
            file: file.to_owned(),
        })
    }

    /// Whose it is.
    pub fn owner(&self) -> UserId {
        self.owner
    }

    /// The user's folder, `user-{uuid}`.
    pub fn folder(&self) -> String {
        format!("{USER_MARK}{}", self.owner)
    }

    /// The file's name in the user's folder.
    pub fn file(&self) -> &str {
        &self.file
    }
}

impl fmt::Display for LoraPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{USER_MARK}{}/{}", self.owner, self.file)
    }
}

impl FromStr for LoraPath {
    type Err = InvalidLoraPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// What a LoRA value in a user's graph can mean, before anything is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoraReference {
    /// A file name of the user's, given bare or as `user-{owner}/{filename}`. A bare one that the user does not have
    /// may still be a file that the backend offers.
    Own(LoraFilename),
    /// A version of a file name of the user's, given as `{filename}@{version}`, bare or below `user-{owner}/`.
    OwnVersion(LoraFilename, LoraVersion),
    /// A path in the user's own folder that looks like a later version's; look it up as a path, then as a file name.
    OwnPath(LoraPath),
    /// Names what can never be the user's. `reason` is for the user, in the words of a violation.
    Foreign {
        /// What is wrong with the value.
        reason: &'static str,
    },
    /// Perhaps a file that the backend itself offers, such as `styles/anime.safetensors`.
    Other(String),
}

/// Says what `value` means in a graph of `owner`'s.
///
/// Refuses rather than guesses: `..`, absolute paths, backslashes and control characters, and every folder that looks
/// like a user's but is not exactly `owner`'s in its canonical spelling, in first place.
pub fn resolve_reference(value: &str, owner: UserId) -> LoraReference {
    let foreign = |reason| LoraReference::Foreign { reason };
    if value.trim().is_empty() {
        return foreign("must name a LoRA");
    }
    if let Some(reason) = path_fault(value) {
        return foreign(reason);
    }
    if value
        .split('/')
        .any(|segment| segment.is_empty() || segment == ".")
    {
        return foreign("is not a plain path: it holds an empty or a \".\" segment");
    }
    let Some((first, rest)) = value.split_once('/') else {
        return match LoraFilename::parse(value) {
            Ok(filename) => LoraReference::Own(filename),
            Err(_) if let Some(version) = version_of(value) => version,
            Err(_) if names_user(value) => foreign("names a user's folder, not a file"),
            Err(_) => LoraReference::Other(value.to_owned()),
        };
    };
    if canonical_owner(first) != Some(owner) {
        let folders = value.rsplit_once('/').map_or("", |(folders, _)| folders);
        return if folders.split('/').any(names_user) {
            foreign("names another user's folder")
        } else {
            LoraReference::Other(value.to_owned())
        };
    }
    own_file(rest, owner).unwrap_or_else(|| foreign("does not name a LoRA file in your folder"))
}

fn own_file(file: &str, owner: UserId) -> Option<LoraReference> {
    let path = LoraPath::parse(&format!("{USER_MARK}{owner}/{file}")).ok();
    if let Some(path) = path.filter(|_| has_version(file)) {
        return Some(LoraReference::OwnPath(path));
    }
    version_of(file).or_else(|| LoraFilename::parse(file).ok().map(LoraReference::Own))
}

/// What `{filename}@{version}` means. No file name ends like this.
fn version_of(value: &str) -> Option<LoraReference> {
    let (filename, version) = value.rsplit_once('@')?;
    Some(LoraReference::OwnVersion(
        LoraFilename::parse(filename).ok()?,
        LoraVersion::parse(version)?,
    ))
}

/// Whether a file's name ends like [`LoraPath::versioned`] writes it.
fn has_version(file: &str) -> bool {
    file.strip_suffix(EXTENSION)
        .and_then(|stem| stem.rsplit_once('.'))
        .is_some_and(|(stem, version)| {
            !stem.is_empty()
                && version.len() == 8
                && version
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// The user of `user-{uuid}`, only in the spelling that [`LoraPath`] writes.
fn canonical_owner(folder: &str) -> Option<UserId> {
    let id = folder.strip_prefix(USER_MARK)?;
    let uuid = Uuid::try_parse(id).ok()?;
    (uuid.hyphenated().to_string() == id).then(|| UserId::new(uuid))
}

/// Whether a folder is, or could on some file system be, one of `user-*`; ours are never left to look alike.
fn names_user(segment: &str) -> bool {
    segment
        .trim_start()
        .get(..USER_MARK.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(USER_MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "11111111-2222-4333-8444-55555555abcd";
    const OTHER: &str = "99999999-2222-4333-8444-55555555abcd";

    fn owner() -> UserId {
        OWNER.parse().unwrap()
    }

    fn filename(name: &str) -> LoraFilename {
        LoraFilename::parse(name).unwrap()
    }

    fn is_foreign(value: &str) -> bool {
        matches!(
            resolve_reference(value, owner()),
            LoraReference::Foreign { .. }
        )
    }

    #[test]
    fn first_and_later_contents_have_paths_of_their_own() {
        let digest = Sha256Digest::new([0xab; 32]);

        let first = LoraPath::first(owner(), &filename("style.SAFETENSORS"));
        let later = LoraPath::versioned(owner(), &filename("style.SAFETENSORS"), &digest);

        assert_eq!(first.to_string(), format!("user-{OWNER}/style.SAFETENSORS"));
        assert_eq!(
            later.to_string(),
            format!("user-{OWNER}/style.abababab.safetensors")
        );
        assert_eq!(LoraPath::parse(&later.to_string()), Ok(later));
    }

    #[test]
    fn the_longest_versioned_name_fits_a_file_system() {
        let longest = filename(&format!("{}.safetensors", "x".repeat(188)));
        let path = LoraPath::versioned(owner(), &longest, &Sha256Digest::new([0; 32]));

        assert!(path.file().len() + ".part".len() <= 255);
        assert_eq!(LoraPath::parse(&path.to_string()), Ok(path));
    }

    #[test]
    fn only_the_canonical_spelling_is_a_path() {
        for text in [
            format!("user-{}/a.safetensors", OWNER.to_uppercase()),
            format!("USER-{OWNER}/a.safetensors"),
            format!("user-{}/a.safetensors", OWNER.replace('-', "")),
            format!("user-{OWNER}/sub/a.safetensors"),
            format!("user-{OWNER}/cafe\u{301}.safetensors"),
            format!("/user-{OWNER}/a.safetensors"),
            "a.safetensors".to_owned(),
        ] {
            assert_eq!(LoraPath::parse(&text), Err(InvalidLoraPath), "{text}");
        }
    }

    #[test]
    fn a_bare_name_and_a_path_in_the_own_folder_are_the_users() {
        let own = LoraReference::Own(filename("a.safetensors"));

        assert_eq!(resolve_reference("a.safetensors", owner()), own);
        assert_eq!(
            resolve_reference(&format!("user-{OWNER}/a.safetensors"), owner()),
            own
        );
    }

    #[test]
    fn a_later_versions_path_is_taken_as_a_path() {
        let path = format!("user-{OWNER}/a.0123abcd.safetensors");

        let reference = resolve_reference(&path, owner());

        assert_eq!(
            reference,
            LoraReference::OwnPath(LoraPath::parse(&path).unwrap())
        );
    }

    #[test]
    fn a_version_is_named_after_an_at_sign() {
        let second =
            LoraReference::OwnVersion(filename("a@1.safetensors"), LoraVersion::new(2).unwrap());

        assert_eq!(resolve_reference("a@1.safetensors@2", owner()), second);
        assert_eq!(
            resolve_reference(&format!("user-{OWNER}/a@1.safetensors@2"), owner()),
            second
        );
        assert_eq!(
            resolve_reference("a@1.safetensors", owner()),
            LoraReference::Own(filename("a@1.safetensors"))
        );
        assert_eq!(
            resolve_reference("a.safetensors@0", owner()),
            LoraReference::Other("a.safetensors@0".to_owned())
        );
        assert!(is_foreign(&format!("user-{OTHER}/a.safetensors@2")));
    }

    #[test]
    fn files_outside_user_folders_may_be_the_systems() {
        for value in [
            "styles/anime.safetensors",
            "old.pt",
            "styles/user-guide.safetensors",
        ] {
            let reference = resolve_reference(value, owner());

            assert_eq!(reference, LoraReference::Other(value.to_owned()));
        }
    }

    #[test]
    fn every_way_into_another_folder_is_refused() {
        for value in [
            format!("user-{OTHER}/x.safetensors"),
            format!("../user-{OTHER}/x.safetensors"),
            format!("user-{OWNER}/../user-{OTHER}/x.safetensors"),
            format!("user-{OWNER}/user-{OTHER}/x.safetensors"),
            format!("USER-{OTHER}/x.safetensors"),
            format!("User-{OWNER}/x.safetensors"),
            format!("user-{}/x.safetensors", OWNER.to_uppercase()),
            format!("user-{}/x.safetensors", OWNER.replace('-', "")),
            format!("styles/user-{OTHER}/x.safetensors"),
            format!("./user-{OTHER}/x.safetensors"),
            format!(" user-{OTHER}/x.safetensors"),
            format!("user-{OWNER}//x.safetensors"),
            format!("user-{OWNER}/"),
            format!("user-{OWNER}"),
            "user-anything/x.safetensors".to_owned(),
            "/etc/passwd".to_owned(),
            "C:/x.safetensors".to_owned(),
            "a\\b".to_owned(),
            "a\nb.safetensors".to_owned(),
            "..".to_owned(),
            String::new(),
            "  ".to_owned(),
        ] {
            assert!(is_foreign(&value), "{value:?}");
        }
    }
}
