//! Objects of a Kubernetes API server, watched: Services, EndpointSlices, one Node, ServiceCIDRs, each as the server's own
//! JSON. What they mean is for others to say. What is wrong with them can be told the server.

#[cfg(feature = "kube")]
mod access;
#[cfg(feature = "kube")]
mod document;
#[cfg(feature = "kube")]
mod follow;
#[cfg(feature = "kube")]
mod notice;

use std::fmt;

use tokio::sync::mpsc::{Receiver, Sender};

use super::error::{HostError, HostErrorKind};

/// How many events may wait for whoever takes them. A server that has more is read no further.
pub(super) const QUEUE: usize = 512;
/// How many notices may wait to be sent. More are lost: a server that is slow is not the slower for them.
#[cfg(feature = "kube")]
const NOTICES: usize = 64;

/// Which API server, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterOptions {
    /// A kubeconfig; without it and `master` it is the cluster that this process is a pod of.
    pub kubeconfig: Option<String>,
    /// The address of the server, instead of that of the kubeconfig.
    pub master: Option<String>,
    /// The Node whose object is watched.
    pub node: String,
}

/// A collection of the API that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterResource {
    /// Services with a cluster IP that no other proxy serves.
    Services,
    /// EndpointSlices that are not those of headless Services.
    EndpointSlices,
    /// One Node.
    Nodes,
    /// ServiceCIDRs. A server that has none of them, or shows none, is fine.
    ServiceCidrs,
}

impl ClusterResource {
    /// All of them.
    pub const ALL: [ClusterResource; 4] = [
        ClusterResource::Services,
        ClusterResource::EndpointSlices,
        ClusterResource::Nodes,
        ClusterResource::ServiceCidrs,
    ];

    /// The name in paths of the API.
    pub fn name(self) -> &'static str {
        match self {
            ClusterResource::Services => "services",
            ClusterResource::EndpointSlices => "endpointslices",
            ClusterResource::Nodes => "nodes",
            ClusterResource::ServiceCidrs => "servicecidrs",
        }
    }
}

impl fmt::Display for ClusterResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a server tells of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEvent {
    /// All objects come now, from the first on.
    ListBegins(ClusterResource),
    /// These were all.
    ListEnds(ClusterResource),
    /// An object is there, or is another.
    Applied {
        /// Of which collection.
        resource: ClusterResource,
        /// `metadata.namespace`, empty if it has none.
        namespace: Box<str>,
        /// `metadata.name`.
        name: Box<str>,
        /// All of it.
        json: Box<str>,
    },
    /// An object is gone.
    Deleted {
        /// Of which collection.
        resource: ClusterResource,
        /// `metadata.namespace`, empty if it has none.
        namespace: Box<str>,
        /// `metadata.name`.
        name: Box<str>,
    },
    /// The server does not answer, or not as it should. It is asked again and again.
    Failed(ClusterResource, String),
    /// It answers again.
    Recovered(ClusterResource),
    /// It does not take Events, and why. Told once for each reason.
    NotTaken(String),
}

/// What is wrong with an object, for the API server to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Of which collection it is.
    pub resource: ClusterResource,
    /// `metadata.namespace`, empty if it has none.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// Why, in a word of the API's style, as `Invalid`.
    pub reason: &'static str,
    /// What was done, in the same style.
    pub action: &'static str,
    /// For people. The server is sent the first 1024 bytes.
    pub note: String,
}

/// The two ways between this process and an API server.
#[derive(Debug)]
pub(super) struct Connection {
    /// What it tells.
    pub(super) events: Receiver<ClusterEvent>,
    /// What it is told.
    pub(super) notices: Sender<Notice>,
}

/// Begins to watch, on a thread of its own. It ends when nobody takes events any more.
#[cfg(feature = "kube")]
pub(super) fn start(options: &ClusterOptions) -> Result<Connection, HostError> {
    let failed = |detail: String| HostError::new("watch the cluster", HostErrorKind::Other, detail);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| HostError::io("watch the cluster", &error))?;
    let client = runtime.block_on(access::client(options)).map_err(failed)?;
    let (sender, events) = tokio::sync::mpsc::channel(QUEUE);
    let (notices, to_send) = tokio::sync::mpsc::channel(NOTICES);
    let node = options.node.clone();
    std::thread::Builder::new()
        .name("cluster".to_owned())
        .spawn(move || runtime.block_on(follow::all(client, &node, sender, to_send)))
        .map_err(|error| HostError::io("watch the cluster", &error))?;
    Ok(Connection { events, notices })
}

/// This program cannot.
#[cfg(not(feature = "kube"))]
pub(super) fn start(_options: &ClusterOptions) -> Result<Connection, HostError> {
    let detail = "this svcproxy was built without the feature `kube`";
    Err(HostError::new("watch the cluster", HostErrorKind::Unsupported, detail))
}
