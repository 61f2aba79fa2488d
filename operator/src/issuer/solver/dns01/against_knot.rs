//! DNS-01 against a real server: Knot DNS, with TSIG.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod apis;
mod scenarios;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{SystemServers, wire};
use crate::issuer::solver::{
    Author, Challenge, ChallengeKind, Identifier, Reach, SecretData, SecretReadError, SecretReader, Solver,
    SolverError, SolverFactory,
    http01::{Http01Router, IngressPolicy, ResponderService},
};

/// base64, for HMAC of any length.
const SECRET: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const WRONG: &str = "d3JvbmctMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// A running server. Ends on drop.
struct Knot {
    process: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Drop for Knot {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    let found = folders.map(|folder| folder.join("knotd")).find(|file| file.is_file());
    found.expect("knotd is not installed: these tests need Knot DNS (Debian: apt-get install knot)")
}

impl Knot {
    /// Serves the zones, each with `ns` at 127.0.0.1 and these records besides.
    async fn start(zones: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().display();
        // The port is free for UDP and TCP now; another process takes it in the meantime only by bad luck.
        let address = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            if std::net::TcpListener::bind(address).is_ok() {
                break address;
            }
        };
        let mut config = format!(
            "server:\n    rundir: {home}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
             background-workers: 1\nlog:\n  - target: {home}/log\n    any: info\ndatabase:\n    storage: {home}\nkey:\n",
            port = address.port()
        );
        for (name, algorithm) in [
            ("key", "hmac-sha256"),
            ("key384", "hmac-sha384"),
            ("key512", "hmac-sha512"),
            ("idle", "hmac-sha256"),
        ] {
            writeln!(
                config,
                "  - id: {name}\n    algorithm: {algorithm}\n    secret: {SECRET}"
            )
            .unwrap();
        }
        config += "acl:\n  - id: update\n    key: [key, key384, key512]\n    action: update\nzone:\n";
        for (zone, records) in zones {
            let file = dir.path().join(format!("{zone}.zone"));
            let soa = format!(
                "$ORIGIN {zone}.\n$TTL 60\n@ SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 60\n@ NS ns.{zone}.\nns A \
                 127.0.0.1\n{records}\n"
            );
            std::fs::write(&file, soa).unwrap();
            writeln!(
                config,
                "  - domain: {zone}\n    storage: {home}\n    file: {zone}.zone\n    zonefile-sync: -1\n    \
                 semantic-checks: off\n    acl: update"
            )
            .unwrap();
        }
        let file = dir.path().join("knot.conf");
        std::fs::write(&file, config).unwrap();
        let process = Command::new(binary())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let knot = Self { process, address, dir };
        knot.wait_for(zones[zones.len() - 1].0).await;
        knot
    }

    /// Adds a record, given as in a zone file.
    fn set(&self, zone: &str, record: &str) {
        let (owner, rest) = record.split_once(' ').unwrap();
        let mut set = vec!["zone-set", zone, owner, "60"];
        set.extend(rest.split(' '));
        for command in [vec!["zone-begin", zone], set, vec!["zone-commit", zone]] {
            let status = Command::new(binary().with_file_name("knotc"))
                .arg("-c")
                .arg(self.dir.path().join("knot.conf"))
                .args(&command)
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "{command:?}");
        }
    }

    async fn wait_for(&self, zone: &str) {
        for _ in 0..400 {
            let name = Name::from_ascii(format!("{zone}.")).unwrap();
            let asked = wire::exchange(self.address, &wire::question(&name, RecordType::SOA, false)).await;
            if asked.is_ok_and(|answer| !answer.message.answers.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("knotd does not serve {zone}");
    }

    async fn txt(&self, name: &str) -> Vec<String> {
        let name = Name::from_ascii(format!("{name}.")).unwrap();
        let answer = wire::exchange(self.address, &wire::question(&name, RecordType::TXT, false))
            .await
            .unwrap();
        let mut values: Vec<String> = answer
            .message
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(String::from_utf8(txt.txt_data.concat()).unwrap()),
                _ => None,
            })
            .collect();
        values.sort();
        values
    }
}

struct Secrets(BTreeMap<&'static str, &'static str>);

#[async_trait]
impl SecretReader for Secrets {
    async fn read(&self, name: &str) -> Result<SecretData, SecretReadError> {
        if name != "tsig" {
            return Err(SecretReadError::NotFound);
        }
        let data = self
            .0
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.as_bytes().to_vec())));
        Ok(data.collect())
    }
}

fn secrets() -> Secrets {
    Secrets(
        [
            ("secret", SECRET),
            ("wrong", WRONG),
            ("rubbish", "not base64!"),
            ("newline", concat!("MDEy", "\n")),
        ]
        .into(),
    )
}

/// A workshop whose system's resolver is this server, or none.
fn solver_factory(system: Option<SocketAddr>) -> SolverFactory {
    let responder_service = ResponderService {
        namespace: "gatehouse-system".into(),
        responder: "10.0.0.1:8089".parse().unwrap(),
    };
    let door = Arc::new(Http01Router::new(
        responder_service,
        Arc::default(),
        IngressPolicy::default(),
        Duration::ZERO,
    ));
    SolverFactory::new(Reach { allow_loopback: true }, SystemServers::new(system), door)
}

fn rfc2136(server: SocketAddr) -> Value {
    json!({"dns01": {"rfc2136": {
        "nameserver": server.to_string(), "tsigKeyName": "key",
        "tsigSecretSecretRef": {"name": "tsig", "key": "secret"}
    }}})
}

async fn solver_from(system: Option<SocketAddr>, spec: Value) -> Result<Arc<dyn Solver>, SolverError> {
    solver_factory(system)
        .build(
            &Author::Administrator,
            &serde_json::from_value(spec).unwrap(),
            &secrets(),
        )
        .await
}

fn challenge(name: &str, value: &str) -> Challenge {
    let (name, wildcard) = name.strip_prefix("*.").map_or((name, false), |name| (name, true));
    Challenge {
        kind: ChallengeKind::Dns01,
        identifier: Identifier::Dns(name.into()),
        wildcard,
        token: format!("token-{value}"),
        key_authorization: format!("token-{value}.thumb"),
        dns_value: value.into(),
    }
}
