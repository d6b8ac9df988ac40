//! A manifest laid over the Service that a cluster has, as the API server does on an apply.

use super::decode::Manifest;
use super::finding::Finding;
use super::intern::Names;
use super::service::NamedReading;

/// The Service as it would be after the apply. `None` if the apply would be refused.
pub(super) fn apply(
    _manifest: &Manifest,
    _current: &str,
    _namespace: &str,
    _names: &mut Names,
    _findings: &mut Vec<Finding>,
) -> Option<NamedReading> {
    None
}
