//! The fuzz target on what the crate itself writes: whole, cut off, and damaged.

use holdfast_membership::{Draft, Identity, Record};

#[path = "../../../fuzz/src/membership.rs"]
mod membership;

#[test]
fn what_is_written_is_read_and_what_is_damaged_does_no_harm() {
    let identity = Identity::from_seed([1; 32]);
    let draft = Draft {
        version: 1,
        left: false,
        name: "node-1".into(),
        wireguard_key: [2; 32],
        gossip: vec!["192.0.2.1:7946".parse().unwrap()],
        wireguard: vec![],
        v4: None,
        v6: None,
        roles: vec!["k3s-agent".into()],
        epoch: 0,
        credential: None,
    };
    let record = Record::sign(&identity, draft).unwrap();
    let bytes = record.bytes();
    let inputs: [Vec<u8>; 5] = [
        bytes.to_vec(),
        // Hello, and statements of one.
        [&[1][..], &[9; 16], &(bytes.len() as u16).to_be_bytes(), bytes].concat(),
        [&[21][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat(),
        identity.to_json().as_bytes().to_vec(),
        identity.id().to_string().into_bytes(),
    ];
    for input in inputs {
        membership::run(&input);
        for at in 0..input.len() {
            membership::run(&input[..at]);
            let mut bad = input.clone();
            bad[at] ^= 0x11;
            membership::run(&bad);
        }
    }
}
