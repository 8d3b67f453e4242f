//! Apache Kafka's jars, fetched by Maven once for each content of the pom.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::exchange::fingerprint;

const POM: &str = include_str!("../../kafka/pom.xml");
const LOG4J2: &str = include_str!("../../kafka/log4j2.properties");

/// Where the jars and the log configuration are.
#[derive(Clone, Debug)]
pub(super) struct Jars {
    folder: PathBuf,
}

impl Jars {
    /// From the cache, or from the network. A second process that wants them waits for the first.
    pub(super) fn fetched() -> Result<Jars, String> {
        let cache = cache_folder()?;
        let fail = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let folder = cache.join(format!("kafka-{:016x}", fingerprint(&format!("{POM}{LOG4J2}"))));
        if folder.is_dir() {
            return Ok(Jars { folder });
        }
        std::fs::create_dir_all(&cache).map_err(|error| fail(&cache, &error))?;
        let lock_path = cache.join("kafka.lock");
        let lock = File::create(&lock_path).map_err(|error| fail(&lock_path, &error))?;
        // Bounded by Maven's own time-outs, as the holder runs nothing but Maven.
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| fail(&lock_path, &error))?;
        if folder.is_dir() {
            return Ok(Jars { folder });
        }
        let new =
            tempfile::Builder::new().prefix("kafka-new-").tempdir_in(&cache).map_err(|error| fail(&cache, &error))?;
        std::fs::write(new.path().join("pom.xml"), POM).map_err(|error| fail(new.path(), &error))?;
        std::fs::write(new.path().join("log4j2.properties"), LOG4J2).map_err(|error| fail(new.path(), &error))?;
        fetch(new.path())?;
        let new = new.keep();
        std::fs::rename(&new, &folder).map_err(|error| fail(&folder, &error))?;
        Ok(Jars { folder })
    }

    /// A JVM with Kafka's classes.
    pub(super) fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.arg("-cp").arg(self.folder.join("jars").join("*"));
        java.arg(format!("-Dlog4j2.configurationFile={}", self.folder.join("log4j2.properties").display()));
        // The broker starts sooner, and is never busy enough for more.
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        java.stdin(Stdio::null());
        java
    }
}

fn fetch(folder: &Path) -> Result<(), String> {
    let output = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start mvn (package maven): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("mvn could not fetch Apache Kafka ({}):\n{}", output.status, text.trim()))
}

fn cache_folder() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("COINFLOW_CACHE") {
        return Ok(folder);
    }
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("coinflow")).ok_or_else(|| "neither COINFLOW_CACHE nor HOME is set".to_owned())
}
