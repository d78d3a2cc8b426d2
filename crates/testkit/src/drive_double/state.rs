use std::collections::{HashMap, HashSet, VecDeque};

use super::content::Content;
use super::fault::{Endpoint, Fault};
use super::file::DriveFile;
use super::log::DriveRequest;
use super::token::{Account, Life};

/// Everything that a double knows.
pub(super) struct State {
    pub(super) files: HashMap<String, DriveFile>,
    pub(super) requests: Vec<DriveRequest>,
    pub(super) client: (String, String),
    pub(super) refresh_token: String,
    pub(super) rotates: bool,
    pub(super) life: Life,
    pub(super) access_tokens: HashSet<String>,
    pub(super) minted: usize,
    pub(super) account: Option<Account>,
    next_faults: HashMap<Endpoint, VecDeque<Fault>>,
    lasting_faults: HashMap<Endpoint, Fault>,
    revisions: usize,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            files: HashMap::new(),
            requests: Vec::new(),
            client: (
                "1234567890-double.apps.googleusercontent.com".to_owned(),
                "double-client-secret".to_owned(),
            ),
            refresh_token: "double-refresh-token-0".to_owned(),
            rotates: false,
            life: Life::Seconds(3_599),
            access_tokens: HashSet::new(),
            minted: 0,
            account: None,
            next_faults: HashMap::new(),
            lasting_faults: HashMap::new(),
            revisions: 0,
        }
    }

    pub(super) fn fail_next(&mut self, endpoint: Endpoint, fault: Fault) {
        self.next_faults
            .entry(endpoint)
            .or_default()
            .push_back(fault);
    }

    pub(super) fn fail_always(&mut self, endpoint: Endpoint, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.lasting_faults.insert(endpoint, fault),
            None => self.lasting_faults.remove(&endpoint),
        };
    }

    /// What goes wrong with the request that just came.
    pub(super) fn take_fault(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let next = self
            .next_faults
            .get_mut(&endpoint)
            .and_then(VecDeque::pop_front);
        next.or_else(|| self.lasting_faults.get(&endpoint).cloned())
    }

    pub(super) fn change(&mut self, id: &str, content: Content) {
        self.revisions += 1;
        let revision = format!("revision-{}", self.revisions);
        let file = self.files.get_mut(id);
        file.expect("a file that the test put there")
            .change(content, revision);
    }
}
