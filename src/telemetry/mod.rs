//! What a process that stays tells of itself: whether it is well, what it has done, which Services have endpoints on this node.
//! State and text; who asks, and over which socket, is not known here.

mod health;
mod histogram;
mod metrics;
mod service_check;
pub mod time;

pub use health::{Health, HealthSite};
pub use metrics::{Extent, Metrics, MetricsSite};
pub use service_check::ServiceCheckSite;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is answered to an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names and values of headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Answer {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Answer { status, headers, body: body.into() }
    }

    fn json(status: u16, body: String) -> Answer {
        let headers = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")];
        Answer { status, headers: headers.map(|(name, value)| (name, value.to_owned())).into(), body }
    }

    fn not_found() -> Answer {
        Answer::text(404, "404 page not found\n")
    }
}

/// What answers at an address.
pub trait Site: Debug + Send + Sync {
    /// The answer to a request for a path, at a time of day (since 1970 began).
    fn answer(&self, path: &str, now: Duration) -> Answer;
}

/// What all sites of a process tell from.
#[derive(Debug, Default)]
pub struct Record {
    /// Whether it is well.
    pub health: Health,
    /// What it has done.
    pub metrics: Metrics,
}

/// A record that several threads have.
#[derive(Debug, Clone, Default)]
pub struct SharedRecord(Arc<Mutex<Record>>);

impl SharedRecord {
    /// Reads or changes it.
    pub fn with<T>(&self, work: impl FnOnce(&mut Record) -> T) -> T {
        // Whoever panicked left numbers, which are still numbers.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
