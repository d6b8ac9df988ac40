//! Numbers of the kernel's interface: linux/netfilter/nf_tables.h, nfnetlink.h, netfilter.h, nf_nat.h, netlink.h.
//!
//! What belongs to a table names it first, in the attribute that a table has its own name in.

/// nfnetlink.h: NFNL_SUBSYS_NFTABLES, which is the upper half of every message's type.
pub(super) const SUBSYSTEM: u16 = 10;
/// nfnetlink.h: NFNL_MSG_BATCH_BEGIN and _END.
pub(super) const BATCH_BEGIN: u16 = 16;
pub(super) const BATCH_END: u16 = 17;

/// netlink.h: NLM_F_*.
pub(super) mod flag {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const ACK: u16 = 4;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// enum nf_tables_msg_types, with the subsystem.
pub(super) mod message {
    use super::SUBSYSTEM;

    pub(crate) const NEW_TABLE: u16 = SUBSYSTEM << 8;
    pub(crate) const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
    pub(crate) const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
    pub(crate) const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
    pub(crate) const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
    pub(crate) const DELETE_CHAIN: u16 = SUBSYSTEM << 8 | 5;
    pub(crate) const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
    pub(crate) const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
    pub(crate) const DELETE_RULE: u16 = SUBSYSTEM << 8 | 8;
    pub(crate) const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
    pub(crate) const GET_SET: u16 = SUBSYSTEM << 8 | 10;
    pub(crate) const DELETE_SET: u16 = SUBSYSTEM << 8 | 11;
    pub(crate) const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
    pub(crate) const GET_ELEMENTS: u16 = SUBSYSTEM << 8 | 13;
    pub(crate) const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
    pub(crate) const NEW_GENERATION: u16 = SUBSYSTEM << 8 | 15;
    pub(crate) const GET_GENERATION: u16 = SUBSYSTEM << 8 | 16;
    pub(crate) const NEW_OBJECT: u16 = SUBSYSTEM << 8 | 18;
    pub(crate) const GET_OBJECT: u16 = SUBSYSTEM << 8 | 19;
    pub(crate) const NEW_FLOWTABLE: u16 = SUBSYSTEM << 8 | 22;
    pub(crate) const GET_FLOWTABLE: u16 = SUBSYSTEM << 8 | 23;
}

/// enum nft_table_attributes.
pub(super) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const USERDATA: u16 = 6;
}

/// enum nft_chain_attributes and enum nft_hook_attributes.
pub(super) mod chain {
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const FLAGS: u16 = 10;
    pub(crate) const USERDATA: u16 = 12;
    /// NFT_CHAIN_BASE.
    pub(crate) const IS_BASE: u32 = 1;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
}

/// enum nft_rule_attributes, and enum nft_expr_attributes with the elements of a list.
pub(super) mod rule {
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const COMPAT: u16 = 5;
    pub(crate) const USERDATA: u16 = 7;
    pub(crate) const LIST_ELEMENT: u16 = 1;
    pub(crate) const EXPRESSION_NAME: u16 = 1;
    pub(crate) const EXPRESSION_DATA: u16 = 2;
}

/// enum nft_set_attributes, enum nft_set_desc_attributes, enum nft_set_flags.
pub(super) mod set {
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LENGTH: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LENGTH: u16 = 7;
    pub(crate) const DESCRIPTION: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const TIMEOUT: u16 = 11;
    pub(crate) const USERDATA: u16 = 13;
    pub(crate) const DESCRIPTION_SIZE: u16 = 1;
    pub(crate) const DESCRIPTION_CONCAT: u16 = 2;
    /// enum nft_set_field_attributes: NFTA_SET_FIELD_LEN.
    pub(crate) const FIELD_LENGTH: u16 = 1;

    pub(crate) const ANONYMOUS: u32 = 1;
    pub(crate) const CONSTANT: u32 = 2;
    pub(crate) const INTERVAL: u32 = 4;
    pub(crate) const MAP: u32 = 8;
    pub(crate) const HAS_TIMEOUT: u32 = 0x10;
    pub(crate) const EVALUATED: u32 = 0x20;
    pub(crate) const OBJECTS: u32 = 0x40;
    pub(crate) const CONCATENATED: u32 = 0x80;
    /// NFT_DATA_VERDICT, a type of data.
    pub(crate) const VERDICTS: u32 = 0xffff_ff00;
}

/// enum nft_set_elem_list_attributes, enum nft_set_elem_attributes, enum nft_data_attributes, enum nft_verdict_attributes.
pub(super) mod element {
    pub(crate) const SET: u16 = 2;
    pub(crate) const ELEMENTS: u16 = 3;
    pub(crate) const SET_ID: u16 = 4;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const TIMEOUT: u16 = 4;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const EXPRESSION: u16 = 7;
    pub(crate) const OBJECT: u16 = 9;
    pub(crate) const KEY_END: u16 = 10;
    pub(crate) const EXPRESSIONS: u16 = 11;
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;
    /// NFT_SET_ELEM_INTERVAL_END.
    pub(crate) const INTERVAL_END: u32 = 1;
}

/// enum nft_gen_attributes.
pub(super) mod generation {
    pub(crate) const ID: u16 = 1;
}

/// NF_ACCEPT, NF_DROP, enum nft_verdicts.
pub(super) mod verdict {
    pub(crate) const DROP: i32 = 0;
    pub(crate) const ACCEPT: i32 = 1;
    pub(crate) const CONTINUE: i32 = -1;
    pub(crate) const JUMP: i32 = -3;
    pub(crate) const GOTO: i32 = -4;
    pub(crate) const RETURN: i32 = -5;
}

/// NFPROTO_IPV4, NFPROTO_IPV6.
pub(super) mod family {
    pub(crate) const INET: u8 = 1;
    pub(crate) const IPV4: u8 = 2;
    pub(crate) const ARP: u8 = 3;
    pub(crate) const NETDEV: u8 = 5;
    pub(crate) const BRIDGE: u8 = 7;
    pub(crate) const IPV6: u8 = 10;
}

/// How many registers of 4 bytes there are.
pub(super) const REGISTERS: usize = 16;

/// enum nft_registers: the verdict, four of 16 bytes, and the same as sixteen of 4 bytes.
pub(super) mod register {
    pub(crate) const VERDICT: u32 = 0;
    pub(crate) const FIRST_LONG: u32 = 1;
    pub(crate) const FIRST_SHORT: u32 = 8;
}

/// What expressions have: their attributes, keys, operators and flags, in the order of the header.
pub(super) mod expression {
    pub(crate) const IMMEDIATE_DREG: u16 = 1;
    pub(crate) const IMMEDIATE_DATA: u16 = 2;

    pub(crate) const BITWISE_SREG: u16 = 1;
    pub(crate) const BITWISE_DREG: u16 = 2;
    pub(crate) const BITWISE_LENGTH: u16 = 3;
    pub(crate) const BITWISE_MASK: u16 = 4;
    pub(crate) const BITWISE_XOR: u16 = 5;
    pub(crate) const BITWISE_OPERATOR: u16 = 6;

    pub(crate) const BYTEORDER_SREG: u16 = 1;
    pub(crate) const BYTEORDER_DREG: u16 = 2;
    pub(crate) const BYTEORDER_OPERATOR: u16 = 3;
    pub(crate) const BYTEORDER_LENGTH: u16 = 4;
    pub(crate) const BYTEORDER_SIZE: u16 = 5;
    pub(crate) const BYTEORDER_TO_NETWORK: u32 = 1;

    pub(crate) const CMP_SREG: u16 = 1;
    pub(crate) const CMP_OPERATOR: u16 = 2;
    pub(crate) const CMP_DATA: u16 = 3;
    pub(crate) const CMP_EQUAL: u32 = 0;
    pub(crate) const CMP_NOT_EQUAL: u32 = 1;
    pub(crate) const CMP_AT_MOST: u32 = 3;
    pub(crate) const CMP_AT_LEAST: u32 = 5;

    pub(crate) const RANGE_SREG: u16 = 1;
    pub(crate) const RANGE_OPERATOR: u16 = 2;
    pub(crate) const RANGE_FROM: u16 = 3;
    pub(crate) const RANGE_TO: u16 = 4;

    pub(crate) const LOOKUP_SET: u16 = 1;
    pub(crate) const LOOKUP_SREG: u16 = 2;
    pub(crate) const LOOKUP_DREG: u16 = 3;
    pub(crate) const LOOKUP_SET_ID: u16 = 4;
    pub(crate) const LOOKUP_FLAGS: u16 = 5;
    pub(crate) const LOOKUP_INVERTED: u32 = 1;

    pub(crate) const DYNSET_SET: u16 = 1;
    pub(crate) const DYNSET_OPERATION: u16 = 3;
    pub(crate) const DYNSET_SREG_KEY: u16 = 4;
    pub(crate) const DYNSET_SREG_DATA: u16 = 5;
    pub(crate) const DYNSET_TIMEOUT: u16 = 6;
    pub(crate) const DYNSET_EXPRESSION: u16 = 7;
    pub(crate) const DYNSET_FLAGS: u16 = 9;
    pub(crate) const DYNSET_EXPRESSIONS: u16 = 10;

    pub(crate) const PAYLOAD_DREG: u16 = 1;
    pub(crate) const PAYLOAD_BASE: u16 = 2;
    pub(crate) const PAYLOAD_OFFSET: u16 = 3;
    pub(crate) const PAYLOAD_LENGTH: u16 = 4;
    pub(crate) const PAYLOAD_SREG: u16 = 5;
    pub(crate) const PAYLOAD_NETWORK: u32 = 1;
    pub(crate) const PAYLOAD_TRANSPORT: u32 = 2;

    pub(crate) const META_DREG: u16 = 1;
    pub(crate) const META_KEY: u16 = 2;
    pub(crate) const META_SREG: u16 = 3;
    pub(crate) const META_MARK: u32 = 3;
    pub(crate) const META_IIF: u32 = 4;
    pub(crate) const META_OIF: u32 = 5;
    pub(crate) const META_IIFNAME: u32 = 6;
    pub(crate) const META_OIFNAME: u32 = 7;
    pub(crate) const META_NFPROTO: u32 = 15;
    pub(crate) const META_L4PROTO: u32 = 16;

    pub(crate) const CT_DREG: u16 = 1;
    pub(crate) const CT_KEY: u16 = 2;
    pub(crate) const CT_DIRECTION: u16 = 3;
    pub(crate) const CT_SREG: u16 = 4;
    pub(crate) const CT_STATE: u32 = 0;
    pub(crate) const CT_STATUS: u32 = 2;
    /// nf_conntrack_common.h: IPS_SRC_NAT, IPS_DST_NAT.
    pub(crate) const STATUS_SNAT: u32 = 0x10;
    pub(crate) const STATUS_DNAT: u32 = 0x20;

    pub(crate) const REJECT_TYPE: u16 = 1;
    pub(crate) const REJECT_CODE: u16 = 2;
    pub(crate) const REJECT_ICMP: u32 = 0;
    pub(crate) const REJECT_TCP_RESET: u32 = 1;
    pub(crate) const REJECT_ICMPX: u32 = 2;

    pub(crate) const NAT_TYPE: u16 = 1;
    pub(crate) const NAT_FAMILY: u16 = 2;
    pub(crate) const NAT_ADDRESS: u16 = 3;
    pub(crate) const NAT_LAST_ADDRESS: u16 = 4;
    pub(crate) const NAT_PORT: u16 = 5;
    pub(crate) const NAT_LAST_PORT: u16 = 6;
    pub(crate) const NAT_FLAGS: u16 = 7;
    /// enum nft_nat_types: NFT_NAT_DNAT.
    pub(crate) const NAT_DNAT: u32 = 1;
    pub(crate) const MASQUERADE_FLAGS: u16 = 1;
    pub(crate) const MASQUERADE_PORT: u16 = 2;
    /// nf_nat.h: NF_NAT_RANGE_*.
    pub(crate) const RANGE_ADDRESSES: u32 = 1;
    pub(crate) const RANGE_PORTS: u32 = 2;
    pub(crate) const RANGE_RANDOM: u32 = 4;
    pub(crate) const RANGE_PERSISTENT: u32 = 8;
    pub(crate) const RANGE_FULLY_RANDOM: u32 = 16;

    pub(crate) const FIB_DREG: u16 = 1;
    pub(crate) const FIB_RESULT: u16 = 2;
    pub(crate) const FIB_FLAGS: u16 = 3;
    /// NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR.
    pub(crate) const FIB_TYPE: u32 = 3;
    pub(crate) const FIB_SOURCE: u32 = 1;
    pub(crate) const FIB_DESTINATION: u32 = 2;

    pub(crate) const NUMGEN_DREG: u16 = 1;
    pub(crate) const NUMGEN_MODULUS: u16 = 2;
    pub(crate) const NUMGEN_TYPE: u16 = 3;
    pub(crate) const NUMGEN_OFFSET: u16 = 4;
    pub(crate) const NUMGEN_INCREMENT: u32 = 0;
    pub(crate) const NUMGEN_RANDOM: u32 = 1;
}
