use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ports::{InstallStart, LoraFile, LoraFolderError, LoraInstall};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::directory::{Directory, FileMark};
use super::feed::Feed;
use super::part::{Part, is_busy};
use super::record::{Lock, Records, found};
use super::room::available_bytes;
use super::root::{Fault, LoraFolderOptions, Root};
use super::verify::{Look, digest_of, look, outlast, record_anew};

/// How many foreign files of one name are kept before we give up.
const FOREIGN_NAMES: u32 = 10_000;

/// How long to wait before asking again whether somebody else is done. Asking,
/// since waiting for a lock would hold a thread that nobody could take back.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// What became of an attempt to begin.
enum Attempt {
    /// Somebody else installs it.
    Busy,
    AlreadyThere,
    Begun(Part),
}

/// Begins to install a file, once nobody else does.
pub(super) async fn install(
    root: &Arc<Root>,
    file: LoraFile,
) -> Result<InstallStart, LoraFolderError> {
    let gone = CancellationToken::new();
    let _guard = gone.clone().drop_guard();
    let mut wait = FIRST_WAIT;
    loop {
        let (wanted, gone) = (file.clone(), gone.clone());
        let attempt = root
            .blocking(move |folder, options| attempt(folder, options, &wanted, &gone))
            .await;
        match attempt {
            Ok(Attempt::Busy) => tokio::time::sleep(wait).await,
            Ok(Attempt::AlreadyThere) => return Ok(InstallStart::AlreadyThere),
            Ok(Attempt::Begun(part)) => {
                return Ok(InstallStart::Begun(Box::new(FolderInstall {
                    root: Arc::clone(root),
                    feed: Some(Feed::into_file(Arc::clone(part.file()))),
                    file,
                    part: Some(part),
                    received_bytes: 0,
                })));
            }
            Err(fault) => return Err(root.error(file.size_bytes, fault).await),
        }
        wait = LONGEST_WAIT.min(wait * 2);
    }
}

fn attempt(
    folder: &Directory,
    options: &LoraFolderOptions,
    file: &LoraFile,
    gone: &CancellationToken,
) -> Result<Attempt, Fault> {
    let records = Records::open_or_make(folder)?;
    let mut disproved = None;
    loop {
        let lock = records.lock()?;
        let user = found(folder.below(&file.path.folder()))?;
        if let Some(user) = &user
            && is_busy(&lock, user, file.path.file())?
        {
            return Ok(Attempt::Busy);
        }
        match look(&lock, folder, &records, file)? {
            Look::Verified => return Ok(Attempt::AlreadyThere),
            Look::Unknown(mark) if disproved != Some(mark) => {
                drop(lock);
                if digest_of(folder, &file.path, mark, gone)? == Some(file.sha256)
                    && record_anew(folder, &file.path, file.sha256, mark)?
                {
                    return Ok(Attempt::AlreadyThere);
                }
                disproved = Some(mark);
            }
            Look::Unknown(_) | Look::Absent => {
                let part = with_room(&lock, folder, &records, options, file)?;
                return Ok(Attempt::Begun(part));
            }
        }
    }
}

/// Makes the file if all of it fits. Under the lock, so that nobody else is
/// promised the same room.
fn with_room(
    lock: &Lock,
    folder: &Directory,
    records: &Records,
    options: &LoraFolderOptions,
    file: &LoraFile,
) -> Result<Part, Fault> {
    let available_bytes = available_bytes(lock, folder, records, options)?;
    if file.size_bytes > available_bytes {
        return Err(Fault::Full {
            needed_bytes: file.size_bytes,
            available_bytes,
        });
    }
    let user = folder.below_or_made(&file.path.folder())?;
    Ok(Part::create(lock, user, file.path.file(), file.size_bytes)?)
}

/// A file on its way into the folder.
#[derive(Debug)]
pub(super) struct FolderInstall {
    root: Arc<Root>,
    file: LoraFile,
    /// `None` once it has failed.
    part: Option<Part>,
    /// `None` once the disk refused.
    feed: Option<Feed>,
    received_bytes: u64,
}

#[async_trait]
impl LoraInstall for FolderInstall {
    async fn write(&mut self, bytes: Bytes) -> Result<(), LoraFolderError> {
        self.received_bytes += bytes.len() as u64;
        // What is too much need not fill the disk; it only counts.
        let keep = self.received_bytes <= self.file.size_bytes;
        if let Some(feed) = &self.feed
            && feed.push(bytes, keep).await
        {
            return Ok(());
        }
        self.ended().await.map(|_digest| ())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), LoraFolderError> {
        let received = self.ended().await?;
        let Self {
            root,
            file,
            part,
            received_bytes,
            ..
        } = *self;
        if received_bytes != file.size_bytes || received != file.sha256 {
            return Err(LoraFolderError::WrongBytes {
                path: file.path,
                expected_bytes: file.size_bytes,
                expected: file.sha256,
                received_bytes,
                received,
            });
        }
        let size_bytes = file.size_bytes;
        let placed = root.blocking(move |folder, _options| {
            let part = part.ok_or_else(refused)?;
            Ok(put_in_place(folder, &file, part)?)
        });
        match placed.await {
            Ok(()) => Ok(()),
            Err(fault) => Err(root.error(size_bytes, fault).await),
        }
    }
}

impl FolderInstall {
    async fn ended(&mut self) -> Result<Sha256Digest, LoraFolderError> {
        let ended = match self.feed.take() {
            Some(feed) => feed.end().await,
            None => Err(refused()),
        };
        match ended {
            Ok(sha256) => Ok(sha256),
            Err(error) => {
                // Its room is free again before it is said how much there is.
                drop(self.part.take());
                Err(self.root.error(self.file.size_bytes, error.into()).await)
            }
        }
    }
}

fn refused() -> io::Error {
    io::Error::other("the disk took no more bytes")
}

/// The file goes first: after a crash between the two there is a file without
/// a record, whose bytes decide.
fn put_in_place(folder: &Directory, file: &LoraFile, part: Part) -> io::Result<()> {
    let written = Arc::clone(part.file());
    written.sync_all()?;
    let records = Records::open_or_make(folder)?;
    let lock = records.lock()?;
    let name = file.path.file();
    let there = folder.below(&file.path.folder())?;
    if let Some(stat) = part.directory().stat(name)? {
        let known = records.read(&file.path)?;
        match known.filter(|known| FileMark::of(&stat) == Some(known.mark)) {
            // Somebody else put the same bytes there, and they were recorded.
            Some(known) if known.is_of(file) => return Ok(()),
            Some(_) => {}
            None => move_aside(part.directory(), name)?,
        }
    }
    part.keep_as(name)?;
    let mark = FileMark::of_open(&written)?;
    if let Err(error) = records.write(&lock, &file.path, file.sha256, mark) {
        // Not one that is listed and of which nobody knows.
        drop(there.remove_file(name));
        return Err(error);
    }
    drop(lock);
    outlast(mark);
    Ok(())
}

/// What we did not put there is not ours to delete; under this name ComfyUI
/// does not list it.
fn move_aside(directory: &Directory, name: &str) -> io::Result<()> {
    for number in 1..=FOREIGN_NAMES {
        match directory.rename_to_new(name, &format!("{name}.foreign-{number}")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use atelier_domain::lora::LoraPath;

    use super::*;

    fn begun(root: &Arc<Root>, into: File) -> FolderInstall {
        let path = LoraPath::parse("user-11111111-2222-4333-8444-55555555abcd/a.safetensors");
        let file = LoraFile {
            path: path.unwrap(),
            size_bytes: 100,
            sha256: Sha256Digest::new([0; 32]),
        };
        let folder = Directory::open(&root.0.folder).unwrap();
        let records = Records::open_or_make(&folder).unwrap();
        let lock = records.lock().unwrap();
        let part = with_room(&lock, &folder, &records, &root.0, &file).unwrap();
        FolderInstall {
            root: Arc::clone(root),
            file,
            part: Some(part),
            feed: Some(Feed::into_file(Arc::new(into))),
            received_bytes: 0,
        }
    }

    #[tokio::test]
    async fn a_disk_that_fills_up_half_way_is_full_and_left_clean() {
        let directory = tempfile::tempdir().unwrap();
        let root = Arc::new(Root(LoraFolderOptions {
            folder: directory.path().to_owned(),
            quota_bytes: Some(1_000),
            keep_free_bytes: 0,
        }));
        let full_disk = || File::options().write(true).open("/dev/full").unwrap();

        let install = Box::new(begun(&root, full_disk()));
        let mut install: Box<dyn LoraInstall> = install;
        // The disk may be asked only after the call.
        let outcome = match install.write(Bytes::from_static(&[1; 60])).await {
            Ok(()) => install.finish().await,
            Err(error) => {
                drop(install);
                Err(error)
            }
        };

        assert!(
            matches!(
                outcome,
                Err(LoraFolderError::Full {
                    needed_bytes: 100,
                    available_bytes: 1_000
                })
            ),
            "{outcome:?}"
        );
        let user = directory
            .path()
            .join("user-11111111-2222-4333-8444-55555555abcd");
        assert_eq!(fs::read_dir(user).unwrap().count(), 0);
    }
}
