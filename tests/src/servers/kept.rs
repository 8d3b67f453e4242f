//! What is expensive to make or to fetch, kept between runs outside the repository.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::exchange::fingerprint;

/// The folder of this name, made by `make` for each `recipe` once; `make` gets an empty folder. A second process that
/// wants it waits for the first.
pub(super) fn kept(
    name: &str,
    recipe: &str,
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let cache = cache_folder()?;
    let fail = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let folder = cache.join(format!("{name}-{:016x}", fingerprint(recipe)));
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&cache).map_err(|error| fail(&cache, &error))?;
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path).map_err(|error| fail(&lock_path, &error))?;
    // Bounded by what the holder runs.
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| fail(&lock_path, &error))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    // Left by one that was killed while it made them.
    let half_made = format!("{name}-new-");
    for entry in std::fs::read_dir(&cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&half_made) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let new = tempfile::Builder::new().prefix(&half_made).tempdir_in(&cache);
    let new = new.map_err(|error| fail(&cache, &error))?;
    make(new.path())?;
    let new = new.keep();
    std::fs::rename(&new, &folder).map_err(|error| fail(&folder, &error))?;
    Ok(folder)
}

fn cache_folder() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("COINFLOW_CACHE") {
        return Ok(folder);
    }
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("coinflow")).ok_or_else(|| "neither COINFLOW_CACHE nor HOME is set".to_owned())
}
