//! What a running process tells of its listeners. Its JSON form is what the process is asked for, and what users get.

use serde::{Deserialize, Serialize};

use crate::net::{AddrPort, Protocol};

use super::{Listener, ListenerKey, Listeners};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The process.
    pub process: u32,
    /// For how many seconds it has run.
    pub seconds: u64,
    /// Connections and flows that are open.
    pub current: u64,
    /// How many may be.
    pub max: u64,
    /// How many were refused for want of a place.
    pub turned_away: u64,
    /// Whether it takes no new ones and is about to end.
    pub draining: bool,
    /// Its listeners, in order.
    pub listeners: Vec<ListenerStatus>,
}

impl Status {
    /// Where new connections go: without endpoints that are there for old ones alone. A process that is about to end takes
    /// none. The error is the text that is no protocol or address.
    pub fn listeners(&self) -> Result<Listeners, String> {
        let taking = self.listeners.iter().filter(|_| !self.draining);
        taking.map(ListenerStatus::listener).collect()
    }
}

impl ListenerStatus {
    fn listener(&self) -> Result<(ListenerKey, Listener), String> {
        let address = |text: &String| text.parse::<AddrPort>().map_err(|()| text.clone());
        let protocol = Protocol::from_name(&self.protocol).ok_or_else(|| self.protocol.clone())?;
        let key = ListenerKey { protocol, at: address(&self.address)? };
        let staying = self.endpoints.iter().filter(|endpoint| !endpoint.leaving);
        let targets = staying.map(|endpoint| address(&endpoint.address)).collect::<Result<_, _>>()?;
        let label = self.label.as_str().into();
        Ok((key, Listener { targets, affinity_seconds: self.affinity_seconds, label }))
    }
}

/// A listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// What it is for.
    pub label: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where it listens.
    pub address: String,
    /// For how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// Connections or flows that are open.
    pub current: u64,
    /// How many there have been.
    pub total: u64,
    /// Bytes from clients to endpoints.
    pub bytes_to: u64,
    /// Bytes from endpoints to clients.
    pub bytes_from: u64,
    /// Clients that no endpoint could be found for.
    pub failures: u64,
    /// Its endpoints, by address.
    pub endpoints: Vec<EndpointStatus>,
}

/// An endpoint of a listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Address and port.
    pub address: String,
    /// Connections or flows that are open.
    pub current: u64,
    /// How many there have been.
    pub total: u64,
    /// Bytes to it.
    pub bytes_to: u64,
    /// Bytes from it.
    pub bytes_from: u64,
    /// Attempts to reach it that failed.
    pub failures: u64,
    /// For how many seconds more it is passed by, if it is.
    pub set_aside_seconds: Option<f64>,
    /// Whether it gets no new connections and is only there for those that it has.
    pub leaving: bool,
}
