//! Two people on one server: one has a LoRA that the other wants.

use std::path::Path;

use atelier_tests_integration::client::Client;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::with_lora;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::ATELIER;

/// The stem of the file that is somebody else's, and that of one that nobody has: as long, so that
/// answers about the two can be compared.
const SECRET: &str = "hidden-style";
const ABSENT: &str = "absent-style";

/// LoRAs that ComfyUI offers to everybody.
pub(crate) const SYSTEM: [&str; 2] = ["system.safetensors", "styles/system.safetensors"];

/// A file that somebody tries to reach.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    pub(crate) owner: String,
    pub(crate) stem: String,
    pub(crate) digest8: String,
    pub(crate) loras_dir: String,
}

impl Aim {
    /// `text` about `self`, as it would be about `other`.
    pub(crate) fn turned_into(&self, other: &Self, text: &str) -> String {
        let forms = |aim: &Self| {
            [
                aim.owner.clone(),
                aim.owner.to_uppercase(),
                aim.owner.replace('-', ""),
                aim.stem.clone(),
                aim.stem.to_uppercase(),
                aim.stem[..aim.stem.len() - 2].to_owned(),
                aim.stem[3..aim.stem.len() - 2].to_owned(),
            ]
        };
        let pairs = forms(self).into_iter().zip(forms(other));
        pairs.fold(text.to_owned(), |text, (from, to)| text.replace(&from, &to))
    }

    /// Fails if a text tells of the file or of whose it is.
    #[track_caller]
    pub(crate) fn assert_untold(&self, text: &str) {
        let lower = text.to_lowercase();
        for word in [&self.owner, &self.owner.replace('-', ""), &self.stem] {
            assert!(!lower.contains(word.as_str()), "{word} is told: {text}");
        }
    }
}

/// The site that tests share.
#[derive(Debug)]
pub(crate) struct Neighbours {
    /// Serves, and works on no run.
    pub(crate) server: Server,
    pub(crate) site: Site,
    /// Has the file, in two versions, both on the backend's disk.
    pub(crate) owner: Client,
    /// The owner's LoRAs, the first version before the second.
    pub(crate) loras: [Value; 2],
    /// The second version, as it is on its owner's disk.
    pub(crate) file: LoraFile,
    /// The file that is there.
    pub(crate) secret: Aim,
    /// One that is not: nobody has the name, and nobody is the owner.
    pub(crate) absent: Aim,
}

/// The file's versions.
fn version(number: u8) -> LoraFile {
    LoraFile::small(100 + number)
}

/// Uploads a file in place of the one that has its name.
pub(crate) async fn replace(client: &Client, filename: &str, bytes: Vec<u8>) -> Value {
    let file = Part::bytes(bytes).file_name(filename.to_owned());
    let form = Form::new().text("replace", "true").part("file", file);
    let request = client.request(Method::POST, "/loras").multipart(form);
    client.send(request).await.expect(201)
}

impl Neighbours {
    async fn new() -> Self {
        let site = Site::new(ATELIER).await;
        std::fs::create_dir(site.backend.loras.join("styles")).expect("it is new");
        for system in SYSTEM {
            let bytes = LoraFile::small(200).bytes;
            std::fs::write(site.backend.loras.join(system), bytes).expect("there is room");
        }
        let worker = site.serve();
        let owner = worker.client();
        let filename = format!("{SECRET}.safetensors");
        let graph = with_lora(&filename);
        let first = owner.upload_lora(&filename, version(1).bytes).await;
        let first = first.expect(201);
        assert_eq!(owner.run_to_the_end(&graph).await["status"], "completed");
        let second = replace(&owner, &filename, version(2).bytes).await;
        assert_eq!(owner.run_to_the_end(&graph).await["status"], "completed");
        drop(worker);
        let server = site.serve_without_worker();
        let owner = Client::new(&server.url, Some(owner.person().clone()));
        let secret = Aim {
            owner: owner.person().id.to_string(),
            stem: SECRET.to_owned(),
            digest8: version(2).sha256()[..8].to_owned(),
            loras_dir: site.backend.loras.display().to_string(),
        };
        let absent = Aim {
            owner: nobody().to_string(),
            stem: ABSENT.to_owned(),
            ..secret.clone()
        };
        let neighbours = Self {
            server,
            site,
            owner,
            loras: [first, second],
            file: version(2),
            secret,
            absent,
        };
        neighbours.assert_within_reach();
        neighbours
    }

    /// Both versions are where ComfyUI would load them from.
    fn assert_within_reach(&self) {
        let folder = self
            .site
            .backend
            .loras
            .join(format!("user-{}", self.secret.owner));
        let later = format!("{SECRET}.{}.safetensors", self.secret.digest8);
        for file in [format!("{SECRET}.safetensors"), later] {
            assert!(Path::new(&folder).join(&file).is_file(), "{file}");
        }
    }
}

/// The id of somebody who never was.
fn nobody() -> Uuid {
    atelier_testkit::random_id()
}

/// The shared site; it stays until the test process ends.
pub(crate) async fn neighbours() -> &'static Neighbours {
    static NEIGHBOURS: OnceCell<Neighbours> = OnceCell::const_new();
    NEIGHBOURS.get_or_init(Neighbours::new).await
}
