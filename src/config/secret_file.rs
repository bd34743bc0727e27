//! The secret file: one secret a line, the current one first. If none is configured, Latchkey generates one for its owner only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use zeroize::Zeroizing;

use super::{Secrets, check};
use crate::domain::{entropy::Entropy, secret::SecretText};

/// Creates the data directory for its owner only. An existing directory is left unchanged. Returns whether others have access to the
/// directory.
pub(super) fn create_data_dir(path: &Path) -> Result<bool, String> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let metadata = created.and_then(|()| fs::metadata(path)).map_err(|error| format!("can't be created: {error}"))?;
    Ok(is_open_to_others(&metadata))
}

/// The secrets of a file.
#[derive(Debug)]
pub(super) struct SecretsInFile {
    pub(super) secrets: Secrets,
    /// Whether others than the file's owner have access to the file.
    pub(super) is_open_to_others: bool,
}

/// Reads a secret file, configured or generated.
pub(super) fn read(path: &Path) -> Result<SecretsInFile, String> {
    let metadata = fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| cannot_read(path, &error))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let current = lines.next().ok_or_else(|| format!("{} is empty", path.display()))?;
    let secrets = Secrets { current: current.into(), previous: lines.map(SecretText::from).collect() };
    for secret in std::iter::once(&secrets.current).chain(&secrets.previous) {
        check::secret(secret.expose()).map_err(|rule| format!("each line of {} {rule}", path.display()))?;
    }
    Ok(SecretsInFile { secrets, is_open_to_others: is_open_to_others(&metadata) })
}

/// Reads the generated secret file. If it does not exist, creates it first.
pub(super) fn read_or_create(path: &Path, entropy: &Entropy) -> Result<Secrets, String> {
    let exists = path.try_exists().map_err(|error| cannot_read(path, &error))?;
    if !exists {
        create(path, entropy).map_err(|error| format!("{} can't be created: {error}", path.display()))?;
    }
    read_generated(path)
}

/// Reads the generated secret file. Refuses a link, a file of another user and a file to which others have access.
pub(super) fn read_generated(path: &Path) -> Result<Secrets, String> {
    // Another user who placed the file would know the secret.
    let metadata = fs::symlink_metadata(path).map_err(|error| cannot_read(path, &error))?;
    if metadata.is_symlink() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!(
            "{} is a link or belongs to another user; if that is intended, set secret_file to this path",
            path.display()
        ));
    }
    let SecretsInFile { secrets, is_open_to_others } = read(path)?;
    if is_open_to_others {
        return Err(format!("others have access to {0}; run `chmod 600 {0}`", path.display()));
    }
    Ok(secrets)
}

/// Creates the file atomically. A file that another process has created meanwhile stays.
fn create(path: &Path, entropy: &Entropy) -> io::Result<()> {
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(entropy.bytes::<32>()));
    let temporary = path.with_extension(format!("{}.new", entropy.uuid().simple()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(secret.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| place(&temporary, path));
    // After a rename, the temporary file no longer exists.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    placed?;
    // The file must survive a power failure, like the data that is encrypted under its secret.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Links `path` to the file `temporary`, or renames the file on a file system without hard links. An existing `path` stays, so that two
/// nodes that start concurrently use the same secret.
fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    let placed = match fs::hard_link(temporary, path) {
        Err(error) if has_no_hard_links(&error) => rename_without_replacing(temporary, path),
        linked => linked,
    };
    placed.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

/// Whether a hard link failed because the file system has none.
fn has_no_hard_links(error: &io::Error) -> bool {
    // On Linux, the error is EPERM for FAT and most others.
    let errors = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|errno| errors.contains(&errno))
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Whether others than the owner, the group included, have any permission: to read, to write or to execute.
pub(super) fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o077 != 0
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("{} can't be read: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    /// The permissions of a file, without the bits of its type.
    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn secret_behind_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        read_or_create(&file, &Entropy::system()).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let refused = read_or_create(&link, &Entropy::system()).unwrap_err();
        assert!(
            refused
                .ends_with("is a link or belongs to another user; if that is intended, set secret_file to this path")
        );
    }

    #[test]
    fn secret_is_created_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/data");
        assert_eq!(create_data_dir(&data), Ok(false));
        assert_eq!(mode(&data), 0o700);

        let path = data.join("secret");
        let created = read_or_create(&path, &Entropy::system()).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(created.current.expose().len(), 43, "32 bytes in base64url");
        assert_eq!(read_or_create(&path, &Entropy::system()).unwrap().current, created.current);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn missing_secret_is_not_created_by_a_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let error = read_generated(&path).unwrap_err();
        assert!(error.starts_with(&format!("{} can't be read: ", path.display())), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn secret_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        read_or_create(&path, &Entropy::system()).unwrap();
        for open in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = read_or_create(&path, &Entropy::system()).unwrap_err();
            assert_eq!(error, format!("others have access to {0}; run `chmod 600 {0}`", path.display()));
        }
    }

    #[test]
    fn concurrent_creations_agree_on_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let racer_count = 8;
        let start = Barrier::new(racer_count);
        let secrets: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..racer_count)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        read_or_create(&path, &Entropy::system()).unwrap().current
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[test]
    fn only_an_error_of_a_file_system_without_hard_links_leads_to_the_rename() {
        for (errno, is_missing) in [
            (Errno::PERM, true),
            (Errno::OPNOTSUPP, true),
            (Errno::NOSYS, true),
            (Errno::NOSPC, false),
            (Errno::DQUOT, false),
            (Errno::ACCESS, false),
            (Errno::EXIST, false),
        ] {
            assert_eq!(has_no_hard_links(&io::Error::from(errno)), is_missing, "{errno:?}");
        }
    }

    #[test]
    fn neither_a_link_nor_the_rename_replaces_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let (temporary, path) = (folder.path().join("new"), folder.path().join("secret"));
        fs::write(&temporary, "late").unwrap();
        fs::write(&path, "first").unwrap();
        place(&temporary, &path).unwrap();
        let error = rename_without_replacing(&temporary, &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");

        fs::remove_file(&path).unwrap();
        rename_without_replacing(&temporary, &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "late");
    }

    #[test]
    fn further_lines_are_previous_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        // 32 bytes are the shortest secret. Blank lines and carriage returns are ignored.
        let [new, old, older] = ["n", "o", "p"].map(|letter| letter.repeat(32));
        fs::write(&path, format!("{new}\r\n\n{old}\n{older}")).unwrap();
        let secrets = read(&path).unwrap().secrets;
        assert_eq!(secrets.current.expose(), new);
        assert_eq!(secrets.previous, [SecretText::from(old), SecretText::from(older)]);
    }

    #[test]
    fn file_without_a_valid_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let shown = path.display();
        assert_eq!(read(&path).unwrap_err(), format!("{shown} can't be read: No such file or directory (os error 2)"));
        fs::write(&path, " \n").unwrap();
        assert_eq!(read(&path).unwrap_err(), format!("{shown} is empty"));
        fs::write(&path, "hunter2").unwrap();
        assert_eq!(
            read(&path).unwrap_err(),
            format!("each line of {shown} must be at least 32 bytes; make one with `openssl rand -base64 32`")
        );
    }
}
