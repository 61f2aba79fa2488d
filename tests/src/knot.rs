//! Knot DNS: an authoritative server whose zones take updates signed with TSIG (RFC 2136, RFC 8945).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use hickory_proto::op::{Message, Query, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};
use tokio::net::UdpSocket;

use crate::assets;
use crate::error::{Doing as _, Error};
use crate::pki::write_private;
use crate::ports;
use crate::process::{Process, Signal};

const START: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A running Knot. In each zone every name has the address 127.0.0.1 unless it has records of its own.
pub struct Knot {
    address: SocketAddr,
    log: PathBuf,
    secret: Vec<u8>,
    process: Mutex<Process>,
}

impl Knot {
    /// The TSIG key's name, without its last dot.
    pub const KEY_NAME: &str = "gatehouse-tests";
    /// As issuers spell it; in the protocol it is `hmac-sha256`.
    pub const ALGORITHM: &str = "HMACSHA256";

    /// Starts it with these zones (`example.test`).
    pub async fn start(folder: &Path, zones: &[&str]) -> Result<Self, Error> {
        let program = assets::knotd()?;
        let port = ports::free();
        let folder = folder.join(format!("knot-{port}"));
        std::fs::create_dir_all(&folder).doing("making Knot's folder")?;
        let mut secret = vec![0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::Dns("no random numbers".to_owned()))?;
        write_private(&folder.join("knot.conf"), &configuration(&folder, port, &secret, zones))?;
        for zone in zones {
            write_private(&folder.join(format!("{zone}.zone")), &zone_file(zone))?;
        }
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("knot.conf"));
        let log = folder.join("knot.log");
        let mut process = Process::spawn("knotd", command, &log)?;
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        for zone in zones {
            process
                .ready(START, || async {
                    let answer = ask(address, zone, RecordType::SOA).await.ok()?;
                    (!answer.answers.is_empty()).then_some(())
                })
                .await?;
        }
        Ok(Self {
            address,
            log,
            secret,
            process: Mutex::new(process),
        })
    }

    /// Returns its address, for UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The TSIG key in base64, as an issuer's Secret holds it.
    pub fn secret(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.secret)
    }

    /// The TXT records of a name, sorted.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, Error> {
        let answer = ask(self.address, name, RecordType::TXT).await?;
        let mut values: Vec<String> = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()),
                _ => None,
            })
            .collect();
        values.sort();
        Ok(values)
    }

    /// Adds a TXT record by a signed update, as a DNS-01 solver does.
    pub async fn add_txt(&self, zone: &str, name: &str, value: &str) -> Result<ResponseCode, Error> {
        self.update(zone, name, text(value), &self.secret).await
    }

    /// The same with another key: what a wrong TSIG secret gets for an answer.
    pub async fn add_txt_with_wrong_key(&self, zone: &str, name: &str, value: &str) -> Result<ResponseCode, Error> {
        self.update(zone, name, text(value), &[0; 32]).await
    }

    /// Adds a CNAME by a signed update, for challenges that are delegated to another zone.
    pub async fn add_cname(&self, zone: &str, alias: &str, target: &str) -> Result<ResponseCode, Error> {
        let target = RData::CNAME(hickory_proto::rr::rdata::CNAME(name(target)?));
        self.update(zone, alias, target, &self.secret).await
    }

    async fn update(&self, zone: &str, owner: &str, data: RData, secret: &[u8]) -> Result<ResponseCode, Error> {
        let owner = name(owner)?;
        let mut records = RecordSet::new(owner.clone(), data.record_type(), 0);
        records.insert(Record::from_rdata(owner, 1, data), 0);
        let mut message = update_message::append(records, name(zone)?, false, false);
        let signer = TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, name(Self::KEY_NAME)?, 300)
            .map_err(|error| Error::Dns(error.to_string()))?;
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        message
            .finalize(&signer, now)
            .map_err(|error| Error::Dns(error.to_string()))?;
        Ok(exchange(self.address, &message).await?.response_code)
    }

    /// Updates that it carried out so far, refused ones not counted.
    pub fn updates(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .filter_map(|line| {
                line.split_once("DDNS, processing ")?
                    .1
                    .split_whitespace()
                    .next()?
                    .parse::<usize>()
                    .ok()
            })
            .sum()
    }

    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// It answers no query until it is thawed.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run again; what was asked meanwhile is answered then.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.signal(signal);
    }
}

fn text(value: &str) -> RData {
    RData::TXT(TXT::new(vec![value.to_owned()]))
}

fn name(text: &str) -> Result<Name, Error> {
    let mut name = Name::from_str(text).map_err(|error| Error::Dns(format!("{text}: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

async fn ask(server: SocketAddr, of: &str, kind: RecordType) -> Result<Message, Error> {
    let mut message = Message::query();
    message.add_query(Query::query(name(of)?, kind));
    exchange(server, &message).await
}

async fn exchange(server: SocketAddr, message: &Message) -> Result<Message, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Dns(format!("{server}: {error}"));
    let bytes = message.to_vec().map_err(|error| wrong(&error))?;
    let talk = async {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut answer = vec![0; 64 * 1024];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(TIMEOUT, talk)
        .await
        .map_err(|_| wrong(&"no answer"))?
        .doing(format!("asking {server}"))?;
    Message::from_vec(&answer).map_err(|error| wrong(&error))
}

fn zone_file(zone: &str) -> String {
    format!(
        "$ORIGIN {zone}.\n$TTL 1\n@ SOA ns admin 1 3600 600 86400 1\n@ NS ns\n@ A 127.0.0.1\nns A 127.0.0.1\n* A \
         127.0.0.1\n"
    )
}

fn configuration(folder: &Path, port: u16, secret: &[u8], zones: &[&str]) -> String {
    let folder = folder.display();
    let key = Knot::KEY_NAME;
    let secret = base64::engine::general_purpose::STANDARD.encode(secret);
    // Pebble asks over TCP and keeps its connections: one worker serves them in turn, and some time out.
    let mut text = format!(
        r#"server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 16
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{folder}"
key:
  - id: {key}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: update
    key: {key}
    action: [update, transfer]
zone:
"#
    );
    for zone in zones {
        text.push_str(&format!(
            "  - domain: {zone}\n    storage: \"{folder}\"\n    file: {zone}.zone\n    zonefile-sync: -1\n    \
             semantic-checks: off\n    acl: update\n"
        ));
    }
    text
}
