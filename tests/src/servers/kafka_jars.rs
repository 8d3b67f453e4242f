//! Apache Kafka's jars, fetched by Maven once for each content of the pom.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::kept::kept;

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
        let folder = kept("kafka", &format!("{POM}{LOG4J2}"), |folder| {
            let write = |file: &str, text: &str| {
                let path = folder.join(file);
                std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
            };
            write("pom.xml", POM)?;
            write("log4j2.properties", LOG4J2)?;
            fetch(folder)
        })?;
        Ok(Jars { folder })
    }

    /// A JVM with Kafka's classes.
    pub(super) fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.arg("-cp").arg(self.folder.join("jars").join("*"));
        java.arg(format!("-Dlog4j2.configurationFile={}", self.folder.join("log4j2.properties").display()));
        java.stdin(Stdio::null());
        java
    }
}

/// The folder with Apache Kafka's jars.
pub fn kafka_jars() -> Result<PathBuf, String> {
    Ok(Jars::fetched()?.folder.join("jars"))
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
