//! Shapes of the API objects that are read, camelCase as the API has them. Strings are borrowed from the text; fields
//! that change nothing are not here and not looked at; `null` is the same as left out, as in the API.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A string; empty if it was `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        struct TextVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
            type Value = Text<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Text<'a>, E> {
                Ok(Text::default())
            }
        }

        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

/// `null` as the default of the type.
pub(super) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An API object as it is read: the type for every lifetime of the text.
pub(super) trait Shape {
    /// The type.
    type Read<'a>: Deserialize<'a>;
}

macro_rules! shapes {
    ($($name:ident)*) => {
        $(impl Shape for $name<'_> {
            type Read<'a> = $name<'a>;
        })*
    };
}

shapes!(Envelope Service EndpointSlice Endpoints Node ServiceCidr);

/// What a list of objects is called when something else is there.
pub(super) const LIST_OF_MAPPINGS: &str = "a list of mappings";

/// A list of objects, or `null` as an empty one. A list in the place of an object is refused as in [`null_object`].
fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    struct OneObject<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Default> DeserializeSeed<'de> for OneObject<T> {
        type Value = T;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
            null_object(deserializer)
        }
    }

    struct ListVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ListVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(LIST_OF_MAPPINGS)
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(object) = seq.next_element_seed(OneObject(PhantomData))? {
                list.push(object);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_any(ListVisitor(PhantomData))
}

/// An object, or `null` as the default of the type. A list is refused, which serde would take for the fields in order.
pub(super) fn null_object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping")
        }

        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

/// What tells what an object is, and the items if it is a list.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a mapping")]
pub(super) struct Envelope<'a> {
    /// `apiVersion`, any JSON.
    #[serde(borrow, default)]
    pub(super) api_version: Option<&'a RawValue>,
    /// `kind`, any JSON.
    #[serde(borrow, default)]
    pub(super) kind: Option<&'a RawValue>,
    /// `items`.
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// `metadata`.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) namespace: Text<'a>,
    #[serde(default, rename = "generateName", deserialize_with = "present")]
    pub(super) has_generate_name: bool,
    #[serde(borrow, default, deserialize_with = "labels")]
    pub(super) labels: Labels<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) annotations: Annotations<'a>,
    #[serde(default, rename = "deletionTimestamp", deserialize_with = "present_and_not_null")]
    pub(super) is_being_deleted: bool,
}

/// The labels that mean something here.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Labels<'a> {
    /// Whether there is a `labels` at all.
    #[serde(skip)]
    pub(super) are_there: bool,
    #[serde(borrow, default, rename = "kubernetes.io/service-name")]
    pub(super) service_name: Option<Text<'a>>,
    #[serde(default, rename = "service.kubernetes.io/service-proxy-name", deserialize_with = "present")]
    pub(super) has_service_proxy_name: bool,
    #[serde(default, rename = "service.kubernetes.io/headless", deserialize_with = "present")]
    pub(super) has_headless: bool,
    #[serde(borrow, default, rename = "endpointslice.kubernetes.io/skip-mirror")]
    pub(super) skip_mirror: Option<Text<'a>>,
    #[serde(borrow, default, rename = "topology.kubernetes.io/zone")]
    pub(super) zone: Option<Text<'a>>,
}

fn labels<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Labels<'a>, D::Error> {
    Ok(Labels { are_there: true, ..null_object(deserializer)? })
}

/// The annotations that mean something here.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Annotations<'a> {
    /// When that happened which made the slice what it is now.
    #[serde(borrow, default, rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub(super) last_change: Option<Text<'a>>,
    #[serde(default, rename = "control-plane.alpha.kubernetes.io/leader", deserialize_with = "present")]
    pub(super) has_leader: bool,
}

/// True for a field that is there, whatever it holds.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

fn present_and_not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::<IgnoredAny>::deserialize(deserializer).map(|value| value.is_some())
}

/// A Service.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Service<'a> {
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) spec: ServiceSpec<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) status: ServiceStatus<'a>,
}

/// `spec` of a Service.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow, default, rename = "clusterIP")]
    pub(super) cluster_ip: Text<'a>,
    #[serde(borrow, default, rename = "clusterIPs", deserialize_with = "null_default")]
    pub(super) cluster_ips: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    pub(super) ip_families: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) ip_family_policy: Text<'a>,
    #[serde(borrow, default, rename = "externalIPs", deserialize_with = "null_default")]
    pub(super) external_ips: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    pub(super) load_balancer_source_ranges: Vec<Text<'a>>,
    #[serde(default)]
    pub(super) allocate_load_balancer_node_ports: Option<bool>,
    #[serde(borrow, default)]
    pub(super) session_affinity: Text<'a>,
    #[serde(default, deserialize_with = "null_object")]
    pub(super) session_affinity_config: SessionAffinityConfig,
    #[serde(borrow, default)]
    pub(super) internal_traffic_policy: Text<'a>,
    #[serde(borrow, default)]
    pub(super) external_traffic_policy: Text<'a>,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) health_check_node_port: i64,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) ports: Vec<ServicePort<'a>>,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) selector: Selector,
}

/// `spec.selector`: only whether it has any entry.
#[derive(Debug, Default)]
pub(super) struct Selector {
    pub(super) is_set: bool,
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        struct SelectorVisitor;

        impl<'de> Visitor<'de> for SelectorVisitor {
            type Value = Selector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Selector, A::Error> {
                let mut is_set = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    is_set = true;
                }
                Ok(Selector { is_set })
            }
        }

        deserializer.deserialize_map(SelectorVisitor)
    }
}

/// `spec.sessionAffinityConfig`.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct SessionAffinityConfig {
    #[serde(default, rename = "clientIP", deserialize_with = "null_object")]
    pub(super) client_ip: ClientIpConfig,
}

/// `spec.sessionAffinityConfig.clientIP`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientIpConfig {
    #[serde(default)]
    pub(super) timeout_seconds: Option<i64>,
}

/// `spec.ports[]` of a Service.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePort<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) protocol: Text<'a>,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) port: i64,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) node_port: i64,
}

/// `status` of a Service.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceStatus<'a> {
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) load_balancer: LoadBalancerStatus<'a>,
}

/// `status.loadBalancer`.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct LoadBalancerStatus<'a> {
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) ingress: Vec<Ingress<'a>>,
}

/// `status.loadBalancer.ingress[]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ingress<'a> {
    #[serde(borrow, default)]
    pub(super) ip: Text<'a>,
    #[serde(borrow, default)]
    pub(super) ip_mode: Option<Text<'a>>,
}

/// An EndpointSlice.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice<'a> {
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow, default)]
    pub(super) address_type: Text<'a>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) endpoints: Vec<SliceEndpoint<'a>>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) ports: Vec<SlicePort<'a>>,
}

/// `endpoints[]` of an EndpointSlice.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceEndpoint<'a> {
    #[serde(borrow, default)]
    pub(super) addresses: FirstAddress<'a>,
    #[serde(default, deserialize_with = "null_object")]
    pub(super) conditions: EndpointConditions,
    #[serde(borrow, default)]
    pub(super) node_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) hints: EndpointHints<'a>,
}

/// `endpoints[].addresses`, of which only the first counts.
#[derive(Debug, Default)]
pub(super) struct FirstAddress<'a>(pub(super) Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for FirstAddress<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FirstAddress<'a>, D::Error> {
        struct FirstVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for FirstVisitor<'a> {
            type Value = FirstAddress<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<FirstAddress<'a>, E> {
                Ok(FirstAddress(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<FirstAddress<'a>, A::Error> {
                let first = seq.next_element()?;
                if first.is_some() {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                }
                Ok(FirstAddress(first))
            }
        }

        deserializer.deserialize_any(FirstVisitor(PhantomData))
    }
}

/// `endpoints[].conditions`.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct EndpointConditions {
    #[serde(default)]
    pub(super) ready: Option<bool>,
    #[serde(default)]
    pub(super) serving: Option<bool>,
    #[serde(default)]
    pub(super) terminating: Option<bool>,
}

/// `endpoints[].hints`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointHints<'a> {
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) for_zones: Vec<Named<'a>>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) for_nodes: Vec<Named<'a>>,
}

/// `{name: …}`.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
}

/// `ports[]` of an EndpointSlice, and of a subset of Endpoints.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct SlicePort<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) protocol: Text<'a>,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) port: i64,
}

/// Endpoints, the kind that EndpointSlices came after.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Endpoints<'a> {
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) subsets: Vec<Subset<'a>>,
}

/// `subsets[]` of Endpoints.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subset<'a> {
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) addresses: Vec<EndpointAddress<'a>>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) not_ready_addresses: Vec<EndpointAddress<'a>>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) ports: Vec<SlicePort<'a>>,
}

/// An address in a subset of Endpoints.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointAddress<'a> {
    #[serde(borrow, default)]
    pub(super) ip: Text<'a>,
    #[serde(borrow, default)]
    pub(super) node_name: Option<Text<'a>>,
}

/// A Node.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Node<'a> {
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) spec: NodeSpec<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) status: NodeStatus<'a>,
}

/// A ServiceCIDR (networking.k8s.io/v1).
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct ServiceCidr<'a> {
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) spec: ServiceCidrSpec<'a>,
}

/// `spec` of a ServiceCIDR.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct ServiceCidrSpec<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    pub(super) cidrs: Vec<Text<'a>>,
}

/// `spec` of a Node.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct NodeSpec<'a> {
    #[serde(borrow, default, rename = "podCIDR")]
    pub(super) pod_cidr: Text<'a>,
    #[serde(borrow, default, rename = "podCIDRs", deserialize_with = "null_default")]
    pub(super) pod_cidrs: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    pub(super) taints: Vec<Taint<'a>>,
}

/// A taint of a Node.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Taint<'a> {
    #[serde(borrow, default)]
    pub(super) key: Text<'a>,
}

/// `status` of a Node.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct NodeStatus<'a> {
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) addresses: Vec<NodeAddress<'a>>,
}

/// `status.addresses[]` of a Node.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct NodeAddress<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow, default)]
    pub(super) address: Text<'a>,
}
