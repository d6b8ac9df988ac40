//! nftables mode, rule for rule as kube-proxy 1.36 (reference section 4), and in `flat` with far fewer objects. Both layouts
//! have the same table: going from one to the other is a change like any other, and kube-proxy takes over from either.
//!
//! ```text
//!  prerouting, output -110   prerouting, output -100        input, forward, output 0          postrouting 100
//!     firewall-check               services            *-endpoints-check, cluster-ips-check     masquerading
//!           |                    |           |                       |                              |
//!     @firewall-ips        @service-ips  @service-nodeports   @no-endpoint-*, @cluster-ips    mark, @hairpin-connections
//!           |                    |           |
//!       firewall- drop       external- <-----+
//!                             |      |
//!                         service-  local-    one choice by numgen: dnat at once, or, with affinity, by endpoint-
//! ```

mod base;
mod carried;
mod endpoint;
mod flat;
mod lift;
mod names;
mod owned;
mod policy;
mod service;

pub use carried::carried;
pub use lift::{lift, service_of};
pub use names::{WATCH_CHAIN, WATCH_FAMILY, WATCH_TABLE};
pub use owned::{is_fixed, is_hashed, may_stand_alone, owns_table};
pub use policy::policies;

use crate::backend::{Layout, tagged_ports};
use crate::net::IpCidr;
use crate::program::nft::{Chain, Comment, Element, Family, Key, Name, Rule, Set, Table};
use crate::resolve::NodeView;

/// What the lowering needs to know beside the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowerOptions {
    /// The mark that asks for source NAT: one bit.
    pub masquerade_mark: u32,
    /// Where cluster IPs come from: those that no Service has are discarded. Of both families.
    pub service_cidrs: Vec<IpCidr>,
    /// Rewrite the source of all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Whether tables, chains and sets bear comments; rules and elements always do.
    pub object_comments: bool,
    /// The shape of the rules.
    pub layout: Layout,
}

/// Lowers the view of one family. The tag of a rule or element is the index of its Service port in `view.ports`.
pub fn lower(view: &NodeView, options: &LowerOptions) -> Table {
    let mut table = bare_table(Family::from(view.family), true);
    base::add(&mut table, view, options);
    match options.layout {
        Layout::KubeProxy => {
            tagged_ports(view).for_each(|(tag, port)| service::add(&mut table, view, options, port, tag));
        }
        Layout::Fast => flat::add(&mut table, view, options),
    }
    if !options.object_comments {
        table.comment = None;
        table.chains.values_mut().for_each(|chain| chain.comment = None);
        table.sets.values_mut().for_each(|set| set.comment = None);
    }
    table
}

/// The table with nothing in it: what a kernel can be asked with whether it takes comments of objects.
pub fn bare_table(family: Family, object_comments: bool) -> Table {
    let mut table = Table::new(family, names::fixed(names::TABLE));
    table.comment = object_comments.then(|| comment("rules for kube-proxy")).flatten();
    table
}

/// Takes over from a live table what is as good as what is wanted: what is known of ServiceCIDRs, if nothing else was said of
/// them, and which endpoint has which number.
pub fn adopt(wanted: &mut Table, live: &Table) {
    base::adopt_service_cidrs(wanted, live);
    flat::adopt(wanted, live);
}

/// Where a live table discards packets to cluster IPs that no Service has.
pub fn guarded_cidrs(table: &Table) -> Vec<IpCidr> {
    base::guarded_cidrs(table)
}

/// The name of the table, in each family.
pub fn table_name() -> &'static str {
    names::TABLE
}

/// A comment of ours; a text that nft could not carry is left out.
fn comment(text: &str) -> Option<Comment> {
    let mut end = text.len().min(Comment::MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Comment::new(&text[..end]).ok()
}

fn commented(rule: Rule, text: &str) -> Rule {
    Rule { comment: comment(text), ..rule }
}

fn regular(rules: Vec<Rule>) -> Chain {
    Chain { base: None, comment: None, rules }
}

fn set_mut<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Set> {
    table.sets.get_mut(name)
}

/// Adds an element; the last of two with one key stays, as with kube-proxy.
fn insert(table: &mut Table, set: &str, key: Key, element: Element) {
    if let Some(set) = set_mut(table, set) {
        set.elements.insert(key, element);
    }
}

fn add_chain(table: &mut Table, name: Name, rules: Vec<Rule>) {
    table.chains.insert(name, regular(rules));
}

#[cfg(test)]
mod tests;
