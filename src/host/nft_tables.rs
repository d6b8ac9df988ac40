//! Which tables nftables has (nfnetlink, subsystem 10). A tool is started only for those that are there.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::error::{HostError, HostErrorKind};
use super::netlink::{Message, Netlink, attributes, is};

/// linux/netfilter/nfnetlink.h: NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
/// linux/netfilter/nf_tables.h: NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFTA_TABLE_NAME.
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const NAME: u16 = 1;
/// `struct nfgenmsg`: family, version, resource. All families are asked for.
const HEADER: [u8; 4] = [0; 4];
/// `NFPROTO_…` with the words of nft.
const FAMILIES: [(u8, &str); 6] =
    [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];

/// Family and name of every table. `Unsupported` if the kernel has no nf_tables.
pub(super) fn all() -> Result<Vec<(String, String)>, HostError> {
    let request = Message { kind: GET_TABLE, body: HEADER.to_vec() };
    let messages = Netlink::open(NETLINK_NETFILTER)
        .and_then(|mut netlink| netlink.dump(&request))
        .map_err(|error| failed(&error))?;
    Ok(messages.iter().filter_map(decode).collect())
}

/// nfnetlink answers EINVAL when no module serves the subsystem.
fn failed(error: &io::Error) -> HostError {
    let action = "list the tables of nf_tables";
    if is(error, Errno::INVAL) || is(error, Errno::PROTONOSUPPORT) {
        let words = "this kernel has no nf_tables (module `nf_tables`)";
        return HostError::new(action, HostErrorKind::Unsupported, words);
    }
    HostError::io(action, error)
}

fn decode(message: &Message) -> Option<(String, String)> {
    if message.kind != NEW_TABLE {
        return None;
    }
    let family = message.body.first()?;
    let (_, family) = FAMILIES.iter().find(|(number, _)| number == family)?;
    let name = attributes(&message.body, HEADER.len()).find(|attribute| attribute.kind() == NAME)?;
    let name = name.value().split(|byte| *byte == 0).next()?;
    Some(((*family).to_owned(), String::from_utf8_lossy(name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::attributes::push;

    #[test]
    fn reads_family_and_name() {
        let table = |kind, family| {
            let mut body = vec![family, 0, 0, 0];
            push(&mut body, 2, &[0; 4]);
            push(&mut body, NAME, b"kube-proxy\0");
            decode(&Message { kind, body })
        };
        let named = |family: &str| Some((family.to_owned(), "kube-proxy".to_owned()));
        assert_eq!(table(NEW_TABLE, 2), named("ip"));
        assert_eq!(table(NEW_TABLE, 10), named("ip6"));
        assert_eq!((table(NEW_TABLE, 77), table(GET_TABLE, 2)), (None, None));
        assert_eq!(decode(&Message { kind: NEW_TABLE, body: vec![2] }), None);
        let error = failed(&Errno::INVAL.into());
        assert_eq!(error.kind, HostErrorKind::Unsupported);
    }
}
