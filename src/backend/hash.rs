//! The name hash that kube-proxy's modes share: base32 of SHA-256 (reference sections 2.3 and 4.6).

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The first 16 characters of the base32 of the SHA-256 of `text`.
pub(super) fn hash16(text: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(text);
    let mut out = [0; 16];
    // Five bytes are eight characters.
    for (half, characters) in out.chunks_exact_mut(8).enumerate() {
        let bits =
            digest[half * 5..half * 5 + 5].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (at, character) in characters.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (35 - 5 * at) & 31) as usize];
        }
    }
    out
}

/// The number from 0 to 31 that a character of a hash stands for.
pub(super) fn digit(character: u8) -> usize {
    ALPHABET.iter().position(|one| *one == character).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_recorded_names() {
        for (text, expected) in [
            ("default/kubernetes:httpstcp", "NPX46M4PTMTKRN6Y"),
            ("kube-system/kube-dns:dnsudp", "TCOU7JCQXEZGVUNU"),
            ("ns1/svc1:p80tcp10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
            ("default/nonametcp10.0.0.1:8080", "FODQJYEN5HGBOOPS"),
            ("kube-system/dns:dnsudp[fd00:10:244:1::3]:5353", "26VWBV3RIYHIRSZA"),
            ("default/sctp:ssctp", "YPSVDYCM26PJVJRL"),
        ] {
            assert_eq!(std::str::from_utf8(&hash16(text.as_bytes())), Ok(expected), "{text}");
        }
    }
}
