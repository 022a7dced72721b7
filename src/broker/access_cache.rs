//! A channel's memory of what its user may do, so that a publish compiles and runs no pattern.

use super::access::{Access, User};
use crate::exception::{Permission, Resource};
use crate::limits::ACCESS_CACHE_MAX;

/// Answers for one user and vhost; forgotten when any permission changes.
#[derive(Default)]
pub(super) struct AccessCache {
    version: u64,
    allowed: Vec<(Permission, bool, Box<str>)>,
}

impl AccessCache {
    pub(super) fn check(
        &mut self,
        access: &Access,
        user: &User,
        permission: Permission,
        resource: Resource<'_>,
    ) -> bool {
        let version = access.version();
        if self.version != version {
            self.version = version;
            self.allowed.clear();
        }
        let (is_queue, vhost, name) = match resource {
            Resource::Queue { vhost, name } => (true, vhost, name),
            Resource::Exchange { vhost, name } => (false, vhost, name),
        };
        let same = |known: &(Permission, bool, Box<str>)| {
            known.0 == permission && known.1 == is_queue && *known.2 == *name
        };
        if self.allowed.iter().any(same) {
            return true;
        }
        let allowed = access.check(user, vhost, permission, name);
        if allowed {
            if self.allowed.len() >= ACCESS_CACHE_MAX {
                self.allowed.clear();
            }
            self.allowed.push((permission, is_queue, name.into()));
        }
        allowed
    }
}
