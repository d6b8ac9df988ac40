//! How an API server is reached: a kubeconfig, an address, or the account of the pod that this process is in.

use std::error::Error;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::ClusterOptions;

/// Who asks, as audit logs and the server's metrics show it.
const AGENT: &str = concat!("svcproxy/", env!("CARGO_PKG_VERSION"));

/// A client; the words of what is wrong otherwise. Nothing is asked of the server yet.
pub(super) async fn client(options: &ClusterOptions) -> Result<Client, String> {
    let address = match &options.master {
        None => None,
        Some(text) => {
            let address: http::Uri = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
            if address.scheme().is_none() || address.host().is_none() {
                return Err(format!("`{text}` is no address like https://192.0.2.1:6443"));
            }
            Some(address)
        }
    };
    let mut config = match (&options.kubeconfig, address) {
        (Some(path), address) => {
            let kubeconfig =
                Kubeconfig::read_from(path).map_err(|error| format!("`{path}`: {}", whole(&error)))?;
            let read = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            let mut config = read.map_err(|error| format!("`{path}`: {}", whole(&error)))?;
            config.cluster_url = address.unwrap_or(config.cluster_url);
            config
        }
        (None, Some(address)) => Config::new(address),
        (None, None) => {
            Config::incluster().map_err(|error| format!("this is no pod of a cluster: {}", whole(&error)))?
        }
    };
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Client::try_from(config).map_err(|error| whole(&error))
}

/// An error with its causes, each once.
pub(super) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
