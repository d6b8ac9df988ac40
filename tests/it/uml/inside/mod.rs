//! What runs in the kernel with IPVS, each test in a network namespace of its own.

mod apply;
mod connections;
mod ipset;
mod ipvs;
mod link;
mod packets;
mod run;

use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};
use svcproxy::host::LinuxHost;

use super::is_inside;
use crate::rig::Namespace;

/// Runs a check in a fresh network namespace.
fn alone(check: impl FnOnce(&Namespace, &mut LinuxHost) + Send) {
    if is_inside() {
        let namespace = Namespace::new("inside").unwrap();
        namespace.inside(|| check(&namespace, &mut LinuxHost::new()));
    }
}

/// Runs a piece of a check without any right, nor that of the tools that it starts.
fn as_anybody<T: Send>(namespace: &Namespace, work: impl FnOnce(&mut LinuxHost) -> T + Send) -> T {
    namespace.inside(|| {
        for right in CapabilitySet::all().iter() {
            // Older kernels do not know all of them.
            let _ = remove_capability_from_bounding_set(right);
        }
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
            .unwrap();
        work(&mut LinuxHost::new())
    })
}
