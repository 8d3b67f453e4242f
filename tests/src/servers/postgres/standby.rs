//! A server that follows another one, and PostgreSQL's own client programs.

use std::process::Command;

use super::{Postgres, folder_for};
use crate::servers::free_port;

impl Postgres {
    /// A copy of its data as it is now, with a folder and a port of its own; it does not run yet. `follows`: by streaming
    /// replication, under the name `standby`, until it is promoted.
    pub fn copy(&self, follows: bool) -> Result<Postgres, String> {
        let copy = Postgres {
            folder: folder_for(self.user)?,
            bin: self.bin.clone(),
            user: self.user,
            port: free_port()?,
            options: self.options.clone(),
            process: None,
        };
        let source =
            format!("host={} port={} user=postgres application_name=standby", self.folder.path().display(), self.port);
        let mut backup = copy.command("pg_basebackup");
        backup.args(["-d", &source, "--wal-method=stream", "--checkpoint=fast", "--no-sync", "-D"]).arg(copy.data());
        if follows {
            backup.arg("--write-recovery-conf");
        }
        run(&mut backup)?;
        Ok(copy)
    }

    /// A copy that follows this one, and runs.
    pub fn standby(&self) -> Result<Postgres, String> {
        let mut standby = self.copy(true)?;
        standby.start_again()?;
        Ok(standby)
    }

    /// Makes a standby the server that writes.
    pub fn promote(&self) -> Result<(), String> {
        let mut client = self.connect_as("postgres", "postgres")?;
        let promoted = client.query_one("SELECT pg_promote(true, 60)", &[]);
        promoted.map(|_| ()).map_err(|error| format!("pg_promote: {error}"))
    }

    /// A client program such as pg_dump, for the database and the role coinflow.
    pub fn client_program(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.env("PGHOST", self.folder.path()).env("PGPORT", self.port.to_string());
        command.env("PGUSER", super::COINFLOW).env("PGDATABASE", super::COINFLOW).env("PGAPPNAME", program);
        command
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
