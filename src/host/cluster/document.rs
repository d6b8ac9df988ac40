//! An object of the API as text: of what is in it only that is read which a watch needs.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::ClusterResource;

/// An object of the API.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// All of it, as it came.
    pub(super) json: Box<RawValue>,
    /// Namespace, name and version.
    meta: ObjectMeta,
}

#[derive(Deserialize)]
struct Head<'t> {
    #[serde(borrow)]
    metadata: Metadata<'t>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'t> {
    #[serde(borrow)]
    name: Cow<'t, str>,
    #[serde(borrow, default)]
    namespace: Cow<'t, str>,
    #[serde(borrow, default)]
    resource_version: Cow<'t, str>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let head: Head<'_> = serde_json::from_str(json.get()).map_err(serde::de::Error::custom)?;
        let Metadata { name, namespace, resource_version } = head.metadata;
        let unless_empty = |text: Cow<'_, str>| Some(text.into_owned()).filter(|text| !text.is_empty());
        let meta = ObjectMeta {
            name: unless_empty(name),
            namespace: unless_empty(namespace),
            resource_version: unless_empty(resource_version),
            ..ObjectMeta::default()
        };
        Ok(Document { json, meta })
    }
}

impl Resource for Document {
    type DynamicType = ClusterResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ClusterResource) -> Cow<'_, str> {
        Cow::Borrowed(match of {
            ClusterResource::Services => "Service",
            ClusterResource::EndpointSlices => "EndpointSlice",
            ClusterResource::Nodes => "Node",
            ClusterResource::ServiceCidrs => "ServiceCIDR",
        })
    }

    fn group(of: &ClusterResource) -> Cow<'_, str> {
        Cow::Borrowed(match of {
            ClusterResource::Services | ClusterResource::Nodes => "",
            ClusterResource::EndpointSlices => "discovery.k8s.io",
            ClusterResource::ServiceCidrs => "networking.k8s.io",
        })
    }

    fn version(_: &ClusterResource) -> Cow<'_, str> {
        Cow::Borrowed("v1")
    }

    fn plural(of: &ClusterResource) -> Cow<'_, str> {
        Cow::Borrowed(of.name())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
