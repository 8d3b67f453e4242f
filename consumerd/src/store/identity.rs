//! Which database it is that stores: the text that goes with each commit to Kafka.

use std::sync::Arc;

use postgres::Client;

use super::{PgFault, Schema};

/// In front of the text, so that a commit of another program is not taken for one of ours.
const PREFIX: &str = "coinflow/";

/// PostgreSQL's own number of the cluster, which a standby shares and a copy by pg_dump does not, that of the database
/// in it, and the schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity(Arc<str>);

impl Identity {
    /// Asks.
    ///
    /// # Errors
    /// As any statement.
    pub(super) fn of(client: &mut Client, schema: &Schema) -> Result<Self, PgFault> {
        // Anybody may ask, unless an administrator has forbidden it; in a statement of its own, for a right that is lacking
        // refuses the whole statement, whatever its conditions.
        let may_ask = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";
        let server: String = if client.query_one(may_ask, &[])?.get(0) {
            let query = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
            client.query_one(query, &[])?.get(0)
        } else {
            "-".to_owned()
        };
        let query = "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()";
        let database: String = client.query_one(query, &[])?.get(0);
        let database = format!("{server}/{database}");
        Ok(Self::new(&format!("{database}/{}", schema.name())))
    }

    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As it goes with a commit.
    pub(crate) fn metadata(&self) -> String {
        format!("{PREFIX}{}", self.0)
    }

    /// Of a commit; none if it is not one of coinflow, or of a version that did not say.
    pub(crate) fn of_metadata(metadata: &str) -> Option<Self> {
        metadata.strip_prefix(PREFIX).map(Self::new)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_names_its_database() {
        let identity = Identity::new("7412/16384/coinflow");
        assert_eq!(Identity::of_metadata(&identity.metadata()), Some(identity));
        assert_eq!(Identity::of_metadata(""), None);
        assert_eq!(Identity::of_metadata("something else"), None);
    }
}
