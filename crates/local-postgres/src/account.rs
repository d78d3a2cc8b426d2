//! The user the server runs as.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Users to run the server as when we are root, best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// Returns the user to run the server as, or `None` to run it as ourselves.
    ///
    /// PostgreSQL refuses to run as root, so root gives the privilege away: to the owner of a
    /// cluster that exists, else to `postgres`, else to `nobody`. Users who are in no `/etc/passwd`
    /// do not work: the server looks its user up.
    pub(crate) fn for_server(data: &Path) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let accounts =
            fs::read_to_string("/etc/passwd").map_or_else(|_| Vec::new(), |text| parse(&text));
        let owner = fs::metadata(data).ok().map(|metadata| metadata.uid());
        Some(choose(&accounts, owner))
    }

    /// Tells whether this user can enter `path`, which may end in parts that do not exist yet.
    pub(crate) fn can_enter(&self, path: &Path) -> bool {
        path.ancestors().all(|ancestor| {
            let Ok(metadata) = fs::metadata(ancestor) else {
                return true;
            };
            let needed = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            metadata.mode() & needed != 0
        })
    }
}

/// Tells whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn parse(passwd: &str) -> Vec<Account> {
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Account { name, uid, gid })
        })
        .collect()
}

fn choose(accounts: &[Account], owner: Option<u32>) -> Account {
    let of_existing = owner
        .filter(|uid| *uid != 0)
        .and_then(|uid| accounts.iter().find(|account| account.uid == uid));
    let named = |name: &&str| {
        accounts
            .iter()
            .find(|account| account.name == *name && account.uid != 0)
    };
    of_existing
        .or_else(|| CANDIDATES.iter().find_map(named))
        .cloned()
        .unwrap_or_else(|| Account {
            name: "nobody".to_owned(),
            uid: 65_534,
            gid: 65_534,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534::/:/x
broken
ann:x:1000:1000::/:/x
";

    #[test]
    fn postgres_comes_before_nobody() {
        let with_postgres = format!("{PASSWD}postgres:x:101:104::/:/x\n");

        assert_eq!(choose(&parse(&with_postgres), None).uid, 101);
        assert_eq!(choose(&parse(PASSWD), None).name, "nobody");
    }

    #[test]
    fn an_existing_cluster_keeps_its_owner() {
        let accounts = parse(PASSWD);

        assert_eq!(choose(&accounts, Some(1000)).name, "ann");
        assert_eq!(
            choose(&accounts, Some(0)).name,
            "nobody",
            "root cannot run it"
        );
        assert_eq!(
            choose(&accounts, Some(4242)).name,
            "nobody",
            "unknown owner"
        );
    }

    #[test]
    fn a_closed_ancestor_is_noticed() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account {
            name: "stranger".to_owned(),
            uid: 4_000_000,
            gid: 4_000_000,
        };

        let deep = base.path().join("not/there/yet");

        assert!(!stranger.can_enter(&deep));
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.can_enter(&deep));
    }
}
