//! All groups of a schedule, and which of them there is something to do for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use coinflow_common::orderbook::Market;

use super::group::{Group, Member};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(pub(super) u64);

/// Groups, in the order in which they were made.
///
/// Nearly all of them wait for their next point at any moment: these are asleep, and a tick does not look at them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: BTreeMap<GroupId, Group>,
    /// They want a poll, or something has happened to them.
    awake: BTreeSet<GroupId>,
    /// Nothing changes for these before then, as long as nothing happens to them.
    asleep: BTreeSet<(Instant, GroupId)>,
    /// What `asleep` holds, by group.
    alarms: HashMap<GroupId, Instant>,
    /// Whose member each market is; none where that has changed.
    homes: Option<HashMap<Market, GroupId>>,
}

impl Groups {
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.all.iter().map(|(id, group)| (*id, group))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Group> {
        self.all.values()
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.all.get(&id)
    }

    /// To change it, but not who its members are.
    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        let group = self.all.get_mut(&id)?;
        rouse(&mut self.awake, &mut self.asleep, &mut self.alarms, id);
        Some(group)
    }

    /// To change all of them, but not who their members are.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.awake.extend(self.all.keys());
        self.asleep.clear();
        self.alarms.clear();
        self.all.values_mut()
    }

    pub(super) fn insert(&mut self, id: GroupId, group: Group) {
        self.homes = None;
        self.all.insert(id, group);
        self.awake.insert(id);
    }

    pub(super) fn remove(&mut self, id: GroupId) -> Option<Group> {
        self.homes = None;
        rouse(&mut self.awake, &mut self.asleep, &mut self.alarms, id);
        self.awake.remove(&id);
        self.all.remove(&id)
    }

    /// To give it members.
    pub(super) fn joined(&mut self, id: GroupId) -> Option<&mut Group> {
        self.homes = None;
        self.get_mut(id)
    }

    /// Keeps these members, by their market and interval, and the groups that have any.
    pub(super) fn retain(&mut self, keep: impl Fn(&Market, Duration) -> bool) {
        self.homes = None;
        for group in self.values_mut() {
            let interval = group.grid.interval;
            group.retain(|market| keep(market, interval));
        }
        self.all.retain(|_, group| !group.members.is_empty());
        self.awake.retain(|id| self.all.contains_key(id));
    }

    pub(super) fn member(&mut self, market: &Market) -> Option<&mut Member> {
        let homes = self.homes.get_or_insert_with(|| homes(&self.all));
        let id = *homes.get(market)?;
        self.get_mut(id)?.members.iter_mut().find(|member| member.market == *market)
    }

    /// Those that are awake at this time.
    pub(super) fn wake(&mut self, now: Instant) -> Vec<GroupId> {
        while let Some((at, id)) = self.asleep.first().copied().filter(|(at, _)| *at <= now) {
            self.asleep.remove(&(at, id));
            self.alarms.remove(&id);
            self.awake.insert(id);
        }
        self.awake.iter().copied().collect()
    }

    /// Those that want nothing at present sleep until time changes something for them.
    pub(super) fn rest(&mut self, now: Instant) {
        let Self { all, awake, asleep, alarms, .. } = self;
        awake.retain(|id| {
            let Some(group) = all.get(id) else { return false };
            if group.wants(now).is_some() {
                return true;
            }
            if let Some(at) = group.next_tick(now, Some(now)) {
                asleep.insert((at, *id));
                alarms.insert(*id, at);
            }
            false
        });
    }

    pub(super) fn are_any_awake(&self) -> bool {
        !self.awake.is_empty()
    }

    /// When something changes by time alone. `request_at` is as in [`Group::next_tick`].
    pub(super) fn next_tick(&self, now: Instant, request_at: Option<Instant>) -> Option<Instant> {
        let awake = self.awake.iter().filter_map(|id| self.all.get(id)?.next_tick(now, request_at));
        awake.chain(self.asleep.first().map(|(at, _)| *at)).min()
    }
}

#[cfg(test)]
impl Groups {
    /// That each one is awake or asleep, and those asleep want nothing before their time.
    pub(super) fn check(&self, now: Instant) {
        for (id, group) in &self.all {
            let alarm = self.alarms.get(id).copied();
            assert_eq!(alarm.is_some(), alarm.is_some_and(|at| self.asleep.contains(&(at, *id))), "{group:?}");
            for member in &group.members {
                let home = self.homes.as_ref().map(|homes| homes.get(&member.market));
                assert!(home.is_none_or(|home| home == Some(id)), "{member:?}");
            }
            if self.awake.contains(id) {
                assert_eq!(alarm, None, "{group:?}");
            } else {
                assert_eq!((group.wants(now), group.next_tick(now, Some(now))), (None, alarm), "{group:?}");
            }
        }
        assert_eq!(self.asleep.len(), self.alarms.len());
        assert!(self.awake.iter().chain(self.alarms.keys()).all(|id| self.all.contains_key(id)));
    }
}

fn rouse(
    awake: &mut BTreeSet<GroupId>,
    asleep: &mut BTreeSet<(Instant, GroupId)>,
    alarms: &mut HashMap<GroupId, Instant>,
    id: GroupId,
) {
    if let Some(at) = alarms.remove(&id) {
        asleep.remove(&(at, id));
    }
    awake.insert(id);
}

fn homes(all: &BTreeMap<GroupId, Group>) -> HashMap<Market, GroupId> {
    let members = |(id, group): (&GroupId, &'_ Group)| {
        let id = *id;
        group.members.iter().map(|member| (member.market.clone(), id)).collect::<Vec<_>>()
    };
    all.iter().flat_map(members).collect()
}
