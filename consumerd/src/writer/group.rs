//! Whether the group is ours alone. Two databases that share one get a part of the partitions each.

use std::time::{Duration, Instant};

use super::Writer;
use crate::record::{Epoch, Partition};
use crate::source::{Committed, committed};
use crate::store::Identity;

/// How often Kafka is asked who commits to the group.
const LOOK: Duration = Duration::from_secs(10);
/// Before a partition is begun, that is, before our own commit covers another one, at most this often.
const LOOK_AT_START: Duration = Duration::from_secs(2);
/// Rows wait meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Writer {
    /// Tells of other databases that commit to the group, and when they do no more. An answer that does not come changes
    /// nothing: what is stored does not depend on it.
    pub(super) fn look_at_group(&mut self, asked: &[(Partition, Epoch)]) {
        let is_new = |(partition, _): &(Partition, Epoch)| !self.unanswered.contains_key(partition);
        let interval = if asked.iter().any(is_new) { LOOK_AT_START } else { LOOK };
        if self.group_looked_at.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        let Some(own) = self.store.as_ref().map(|store| store.identity.clone()) else { return };
        let all = self.positions.keys().chain(asked.iter().map(|(partition, _)| partition));
        let mut topics: Vec<&str> = all.map(|partition| &*partition.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        if topics.is_empty() {
            return;
        }
        self.group_looked_at = Some(Instant::now());
        let found = {
            let _waiting = self.beat.waiting("the group's commits");
            committed(&self.consumer, &topics, TIMEOUT)
        };
        let found = match found {
            Ok(found) => strangers(&own, &found),
            Err(error) => {
                log::debug!("kafka does not tell the group's commits source={} err={error}", self.resolver.name);
                return;
            }
        };
        self.tell_strangers(&own, found);
    }

    fn tell_strangers(&mut self, own: &Identity, found: Vec<(Partition, Identity)>) {
        let (source, group) = (&self.resolver.name, &self.resolver.source.group);
        let mut view = self.state.view();
        match (view.strangers.is_empty(), found.first()) {
            (true, Some((partition, stranger))) => log::error!(
                "another database commits to the same group, each stores only its part of the partitions; give each \
                 a group of its own source={source} group={group} {partition} partitions={} database={stranger} ours={own}",
                found.len()
            ),
            (false, None) => {
                log::info!("no other database commits to the group any more source={source} group={group}");
            }
            _ => {}
        }
        view.strangers = found;
    }
}

/// Partitions whose last commit is that of another database. One that says nothing of it is no proof.
fn strangers(own: &Identity, found: &[Committed]) -> Vec<(Partition, Identity)> {
    let stranger = |commit: &Committed| {
        let by = commit.by.clone().filter(|by| by != own)?;
        Some((commit.partition.clone(), by))
    };
    found.iter().filter_map(stranger).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_name_is_a_stranger() {
        let commit = |number, by: Option<&str>| Committed {
            partition: Partition::new("t", number),
            offset: 7,
            by: by.map(Identity::new),
        };
        let found = [commit(0, Some("a")), commit(1, None), commit(2, Some("b"))];
        assert_eq!(strangers(&Identity::new("a"), &found), [(Partition::new("t", 2), Identity::new("b"))]);
    }
}
