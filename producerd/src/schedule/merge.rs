//! Groups that fit into others.

use super::group::codes_chars;
use super::{GroupId, Schedule};

impl Schedule {
    /// Lets a group go if the others of its interval have room for its members: where markets were taken out, more requests
    /// than needed would go out for ever. It is called when a poll of the group has ended, so that its members are polled
    /// again within their interval.
    pub(super) fn merge(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(id) else { return };
        let interval = group.grid.interval;
        if !self.sparse.contains(&interval) || !group.is_calm() {
            return;
        }
        let same = || self.groups.iter().filter(|(_, other)| other.grid.interval == interval);
        let markets = same().flat_map(|(_, other)| &other.members).map(|member| &member.market);
        let needed = self.limits.batches(markets).len();
        if same().count() <= needed {
            self.sparse.remove(&interval);
            return;
        }
        // The fewest have to move.
        if same().any(|(_, other)| other.members.len() < group.members.len()) {
            return;
        }
        let mut rooms: Vec<Room> = same()
            .filter(|(other, group)| *other != id && group.is_calm())
            .map(|(other, group)| Room {
                id: other,
                members: self.limits.markets_per_request.saturating_sub(group.members.len()),
                chars: self.limits.codes_chars_max.saturating_sub(group.codes_chars()),
            })
            .collect();
        let places: Option<Vec<GroupId>> =
            group.members.iter().map(|member| take_place(&mut rooms, codes_chars(&member.market))).collect();
        let Some(places) = places else { return };
        let members = self.groups.remove(id).map(|group| group.members).unwrap_or_default();
        for (member, place) in members.into_iter().zip(places) {
            if let Some(group) = self.groups.joined(place) {
                group.members.push(member);
            }
        }
    }
}

/// What a group has room for.
struct Room {
    id: GroupId,
    members: usize,
    chars: usize,
}

fn take_place(rooms: &mut [Room], chars: usize) -> Option<GroupId> {
    let room = rooms.iter_mut().find(|room| room.members > 0 && room.chars >= chars)?;
    room.members -= 1;
    room.chars -= chars;
    Some(room.id)
}
