//! Reads manifests from files, folders, pipes and standard input; writes whole files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "host is the folder with IO")]

use std::collections::BTreeSet;
use std::fs::{self, File, FileType};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::{HostError, HostErrorKind};

/// How much one call may read.
pub(super) const SIZE_LIMIT: u64 = 1 << 30;
/// The files of a folder that are manifests.
const SUFFIXES: [&str; 3] = ["yaml", "yml", "json"];

type Named = (String, Vec<u8>);

/// The text of a file or pipe, or the texts below a folder.
pub(super) fn read_path(path: &str, limit: u64) -> Result<Vec<Named>, HostError> {
    let mut budget = Budget { left: limit, limit };
    let metadata = fs::metadata(path).map_err(|error| HostError::io(format!("read `{path}`"), &error))?;
    let kind = metadata.file_type();
    if !metadata.is_dir() {
        if !kind.is_file() && !kind.is_fifo() {
            let detail = format!("it is {}, not a file, folder or pipe", name_of(kind));
            return Err(HostError::new(format!("read `{path}`"), HostErrorKind::Unsupported, detail));
        }
        return Ok(vec![(path.to_owned(), budget.read_file(Path::new(path))?)]);
    }
    let mut files = Vec::new();
    list_folder(Path::new(path), &mut BTreeSet::new(), &mut files)?;
    if files.is_empty() {
        return Err(HostError::new(
            format!("read folder `{path}`"),
            HostErrorKind::NotFound,
            "there is no .yaml, .yml or .json file in it",
        ));
    }
    files.into_iter().map(|file| Ok((file.display().to_string(), budget.read_file(&file)?))).collect()
}

/// The bytes of one file or pipe.
pub(super) fn read_file(path: &str, limit: u64) -> Result<Vec<u8>, HostError> {
    let action = || format!("read `{path}`");
    let metadata = fs::metadata(path).map_err(|error| HostError::io(action(), &error))?;
    if metadata.is_dir() {
        return Err(HostError::new(action(), HostErrorKind::IsFolder, "it is a folder, not a file"));
    }
    Budget { left: limit, limit }.read_file(Path::new(path))
}

/// All of a stream, under the name that it has in messages.
pub(super) fn read_stream(name: &str, stream: impl Read, limit: u64) -> Result<Named, HostError> {
    Ok((name.to_owned(), Budget { left: limit, limit }.read(name, stream)?))
}

/// Writes a new file beside the old one and puts it in its place. What is no ordinary file (`/dev/stdout`) is written to.
pub(super) fn write_file(path: &str, bytes: &[u8]) -> Result<(), HostError> {
    replace(Path::new(path), bytes).map_err(|error| HostError::io(format!("write `{path}`"), &error))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return fs::write(path, bytes);
    }
    // A link keeps pointing to where it points.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = File::create(&new).and_then(|mut file| {
        if let Ok(old) = fs::metadata(&path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(bytes)
    });
    let result = written.and_then(|()| fs::rename(&new, &path));
    if result.is_err() {
        let _ = fs::remove_file(&new);
    }
    result
}

/// Adds the manifests of a folder and the folders in it, in order of their names. Hidden ones are left out, which also keeps
/// the `..data` folder of a mounted ConfigMap from being read twice. Each folder is read once, so links may form a loop.
fn list_folder(
    folder: &Path,
    seen: &mut BTreeSet<(u64, u64)>,
    files: &mut Vec<PathBuf>,
) -> Result<(), HostError> {
    let failed = |error: io::Error| HostError::io(format!("read folder `{}`", folder.display()), &error);
    let metadata = fs::metadata(folder).map_err(failed)?;
    if !seen.insert((metadata.dev(), metadata.ino())) {
        return Ok(());
    }
    let entries =
        fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>()).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries
        .iter()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(fs::DirEntry::path)
        .collect();
    paths.sort();
    for path in paths {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // A manifest left out in silence would be a Service taken away.
            Err(error) if is_manifest(&path) => {
                return Err(HostError::io(format!("read `{}`", path.display()), &error));
            }
            Err(_) => continue,
        };
        if metadata.is_dir() {
            list_folder(&path, seen, files)?;
        } else if metadata.is_file() && is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(|suffix| suffix.to_str()).is_some_and(|suffix| SUFFIXES.contains(&suffix))
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_char_device() {
        "a character device"
    } else {
        "something else"
    }
}

/// What is left of the limit.
struct Budget {
    left: u64,
    limit: u64,
}

impl Budget {
    fn read_file(&mut self, path: &Path) -> Result<Vec<u8>, HostError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| HostError::io(format!("read `{name}`"), &error))?;
        self.read(&name, file)
    }

    fn read(&mut self, name: &str, stream: impl Read) -> Result<Vec<u8>, HostError> {
        let mut bytes = Vec::new();
        stream
            .take(self.left.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| HostError::io(format!("read `{name}`"), &error))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            let detail = format!("more than {} MiB of manifests", self.limit >> 20);
            HostError::new(format!("read `{name}`"), HostErrorKind::Unsupported, detail)
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("svcproxy-test-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }

        fn write(&self, name: &str, text: &str) {
            write_file(&self.path(name), text.as_bytes()).unwrap();
        }

        fn link(&self, to: &str, name: &str) {
            std::os::unix::fs::symlink(to, self.0.join(name)).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn reads_a_folder_in_order_of_names() {
        let folder = Folder::new("order");
        for name in
            ["b.yaml", "a.json", "sub/c.yml", "notes.txt", ".hidden.yaml", ".git/x.yaml", "a.yaml.swp"]
        {
            folder.write(name, name);
        }
        folder.link("..", "sub/loop");
        folder.link("nothing", "broken");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path("pipe.yaml"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let read = read_path(&folder.path(""), SIZE_LIMIT).unwrap();
        let texts: Vec<&str> = read.iter().map(|(_, text)| std::str::from_utf8(text).unwrap()).collect();
        assert_eq!(texts, ["a.json", "b.yaml", "sub/c.yml"]);
        assert!(read[2].0.ends_with("order/sub/c.yml"), "{}", read[2].0);
    }

    #[test]
    fn reads_a_mounted_config_map_once() {
        let folder = Folder::new("configmap");
        folder.write("..2026_01_01/shop.yaml", "shop");
        folder.link("..2026_01_01", "..data");
        folder.link("..data/shop.yaml", "shop.yaml");
        assert_eq!(read_path(&folder.path(""), SIZE_LIMIT).unwrap().len(), 1);
    }

    #[test]
    fn says_what_is_wrong() {
        let folder = Folder::new("wrong");
        let error = |name: &str, limit| read_path(&folder.path(name), limit).unwrap_err();
        assert_eq!(error("missing.yaml", 1).kind, HostErrorKind::NotFound);
        assert_eq!(error("missing.yaml", 1).detail, "No such file or directory");
        assert_eq!(error("", 1).detail, "there is no .yaml, .yml or .json file in it");
        folder.write("a.yaml", "12345");
        folder.write("b.yaml", "12345");
        assert!(read_path(&folder.path(""), 10).is_ok());
        assert_eq!(error("", 9).detail, "more than 0 MiB of manifests");
        folder.link("nothing", "c.yaml");
        assert_eq!(error("", SIZE_LIMIT).kind, HostErrorKind::NotFound);
        let device = read_path("/dev/zero", SIZE_LIMIT).unwrap_err();
        assert_eq!(
            device.to_string(),
            "cannot read `/dev/zero`: it is a character device, not a file, folder or pipe"
        );
    }

    #[test]
    fn reads_a_pipe_that_is_named() {
        let folder = Folder::new("pipe");
        let path = folder.path("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || write_file(&path, b"kind: Service").unwrap()
        });
        assert_eq!(read_path(&path, SIZE_LIMIT).unwrap(), [(path, b"kind: Service".to_vec())]);
        writer.join().unwrap();

        // As a shell writes `<(command)`.
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"kind: Node").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(read_path(&path, SIZE_LIMIT).unwrap(), [(path, b"kind: Node".to_vec())]);
    }

    #[test]
    fn replaces_a_file_and_keeps_its_rights_and_links() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("write");
        folder.write("deep/er/file", "old");
        fs::set_permissions(folder.path("deep/er/file"), fs::Permissions::from_mode(0o640)).unwrap();
        folder.link("deep/er/file", "link");
        folder.write("link", "new");
        assert_eq!(fs::read_to_string(folder.path("deep/er/file")).unwrap(), "new");
        assert_eq!(fs::metadata(folder.path("link")).unwrap().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(folder.path("link")).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path("deep/er")).unwrap().count(), 1);
        assert!(write_file(&folder.path("deep"), b"").is_err());
    }
}
