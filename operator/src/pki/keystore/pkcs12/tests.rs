#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::pki::{
    Extras,
    samples::{for_hours, named, p256, two_tier},
};

const PROFILES: [Pkcs12Profile; 3] = [
    Pkcs12Profile::LegacyRC2,
    Pkcs12Profile::LegacyDES,
    Pkcs12Profile::Modern2023,
];

#[test]
fn a_keystore_matches_its_own_content_password_and_profile_only() {
    let (_, intermediate) = two_tier();
    let (key, other_key) = (p256(), p256());
    let issued = intermediate
        .authority()
        .sign(
            &named(&["a.example"]),
            key.public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    let chain = [vec![issued.leaf.clone()], issued.intermediates.to_vec()].concat();
    let authorities = [issued.root.as_deref().unwrap().clone()];
    let content = KeystoreContent {
        key: &key,
        chain: &chain,
        authorities: &authorities,
    };
    for profile in PROFILES {
        let file = pkcs12_keystore(content, "pässword", profile).unwrap();
        assert_ne!(
            file,
            pkcs12_keystore(content, "pässword", profile).unwrap(),
            "salts are random"
        );
        assert!(pkcs12_keystore_matches(&file, content, "pässword", profile));
        assert!(!pkcs12_keystore_matches(&file, content, "another", profile));
        assert!(!pkcs12_keystore_matches(
            &file,
            KeystoreContent {
                key: &other_key,
                ..content
            },
            "pässword",
            profile
        ));
        assert!(!pkcs12_keystore_matches(
            &file,
            KeystoreContent {
                chain: &chain[..1],
                ..content
            },
            "pässword",
            profile
        ));
        assert!(!pkcs12_keystore_matches(
            &file,
            KeystoreContent {
                authorities: &[],
                ..content
            },
            "pässword",
            profile
        ));
        for other in PROFILES.into_iter().filter(|other| *other != profile) {
            assert!(!pkcs12_keystore_matches(&file, content, "pässword", other));
        }
        assert!(!pkcs12_truststore_matches(&file, &authorities, "pässword", profile));

        let truststore = pkcs12_truststore(&authorities, "pässword", profile).unwrap();
        assert!(pkcs12_truststore_matches(
            &truststore,
            &authorities,
            "pässword",
            profile
        ));
        assert!(!pkcs12_truststore_matches(&truststore, &chain, "pässword", profile));
        assert!(!pkcs12_keystore_matches(&truststore, content, "pässword", profile));
        let many: Vec<Vec<u8>> = chain.iter().chain(&authorities).cycle().take(12).cloned().collect();
        assert!(pkcs12_truststore_matches(
            &pkcs12_truststore(&many, "pässword", profile).unwrap(),
            &many,
            "pässword",
            profile
        ));
    }
}

#[test]
fn what_is_missing_is_said_and_damage_never_matches() {
    let key = p256();
    let issued = crate::pki::self_sign(&named(&["a.example"]), &key, for_hours(1)).unwrap();
    let chain = [issued.leaf];
    let content = KeystoreContent {
        key: &key,
        chain: &chain,
        authorities: &chain,
    };
    let reason = |result: Result<Vec<u8>, KeystoreError>| result.unwrap_err().reason();
    assert_eq!(
        reason(pkcs12_keystore(content, "", Pkcs12Profile::Modern2023)),
        "InvalidKeystorePassword"
    );
    assert_eq!(
        reason(pkcs12_keystore(
            KeystoreContent { chain: &[], ..content },
            "pw",
            Pkcs12Profile::Modern2023
        )),
        "InvalidCertificate"
    );
    assert_eq!(
        reason(pkcs12_truststore(&[], "pw", Pkcs12Profile::Modern2023)),
        "NoAuthority"
    );
    let file = pkcs12_keystore(content, "pw", Pkcs12Profile::Modern2023).unwrap();
    for at in (0..file.len()).step_by(file.len() / 40) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x55;
        assert!(!pkcs12_keystore_matches(
            &damaged,
            content,
            "pw",
            Pkcs12Profile::Modern2023
        ));
        assert!(!pkcs12_keystore_matches(
            &file[..at],
            content,
            "pw",
            Pkcs12Profile::Modern2023
        ));
    }
}
