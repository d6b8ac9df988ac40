//! Numbered lists of maps: who stays keeps its place.

use super::*;
use crate::program::nft::diff::diff;

/// A table with one map; of each list its name, a port, and its members, the last numbers of addresses.
fn lists(lists: &[(u16, &[u8])]) -> Table {
    let mut map = Set {
        key: vec![ScalarType::InetService, ScalarType::Integer],
        data: Some(DataType::Values(vec![ScalarType::Ipv4Addr])),
        ..Set::default()
    };
    for (list, members) in lists {
        for (place, member) in (0..).zip(*members) {
            let key = Key::exact([Scalar::Port(*list), Scalar::Integer(place)]);
            let data = Data::values([Scalar::Ipv4([10, 0, 0, *member].into())]);
            map.elements.insert(key, Element::of(data));
        }
    }
    let mut table = Table::new(Family::Ip, name("t"));
    table.sets.insert(name("m"), map);
    table
}

/// The wanted lists with the places of the live ones, and how many elements are deleted and added.
fn kept(wanted: &[(u16, &[u8])], live: &[(u16, &[u8])]) -> (Table, usize, usize) {
    let (mut wanted, live) = (lists(wanted), lists(live));
    keep_places(wanted.sets.get_mut("m").unwrap(), &live.sets["m"]);
    let changes = diff(&wanted, Some(&live)).elements.remove("m").unwrap_or_default();
    (wanted, changes.delete.len(), changes.add.len())
}

#[test]
fn a_list_that_gains_or_loses_a_member_is_not_numbered_anew() {
    let live: [(u16, &[u8]); 2] = [(80, &[1, 3, 5, 7]), (81, &[1, 2])];
    for (wanted, expected, (deleted, added)) in [
        // One comes: it is the last, whatever its rank.
        ([1, 2, 3, 5, 7].as_slice(), [1, 3, 5, 7, 2].as_slice(), (0, 1)),
        // One goes: the last takes its place.
        (&[3, 5, 7], &[7, 3, 5], (2, 1)),
        // The last one goes.
        (&[1, 3, 5], &[1, 3, 5], (1, 0)),
        // One becomes another.
        (&[1, 3, 4, 7], &[1, 3, 4, 7], (1, 1)),
        (&[2, 1, 3, 5], &[1, 3, 5, 2], (1, 1)),
        (&[8, 9], &[8, 9], (4, 2)),
        (&[], &[], (4, 0)),
    ] {
        let (table, n_deleted, n_added) = kept(&[(80, wanted), live[1]], &live);
        assert_eq!(table, lists(&[(80, expected), live[1]]), "{wanted:?}");
        assert_eq!((n_deleted, n_added), (deleted, added), "{wanted:?}");
    }
}

#[test]
fn members_that_are_alike_are_all_kept() {
    let (table, ..) = kept(&[(80, &[1, 1, 2])], &[(80, &[1, 2, 1])]);
    assert_eq!(table, lists(&[(80, &[1, 2, 1])]));
    let (table, ..) = kept(&[(80, &[1, 2])], &[(80, &[1, 1])]);
    assert_eq!(table, lists(&[(80, &[1, 2])]));
    let (table, ..) = kept(&[(80, &[4]), (90, &[5])], &[]);
    assert_eq!(table, lists(&[(80, &[4]), (90, &[5])]));
}

#[test]
fn a_comment_counts_against_another_one_alone() {
    let table = |comment: Option<&str>| {
        let mut table = lists(&[(80, &[1])]);
        for element in table.sets.get_mut("m").unwrap().elements.values_mut() {
            element.comment = comment.map(|text| Comment::new(text).unwrap());
        }
        table
    };
    let differs = |wanted, live| !diff(&table(wanted), Some(&table(live))).is_empty();
    assert!(differs(Some("ns/a"), Some("ns/b")));
    assert!(!differs(Some("ns/a"), Some("ns/a")));
    assert!(!differs(Some("ns/a"), None) && !differs(None, Some("ns/a")));
}
