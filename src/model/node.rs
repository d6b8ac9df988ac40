//! A Node: what a proxy needs to know of one (reference section 1.11).

use std::net::IpAddr;
use std::sync::Arc;

use crate::net::IpCidr;

/// A Node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` of type InternalIP in order, then those of type ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpCidr>,
    /// Whether it is about to go: it is being deleted, or the autoscaler has tainted it (`ToBeDeletedByClusterAutoscaler`).
    pub is_leaving: bool,
}
