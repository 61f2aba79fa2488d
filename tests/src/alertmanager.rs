//! Prometheus' Alertmanager, to which alerts are posted as to the one that people have.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::error::{Doing as _, Error};
use crate::pki::write_private;
use crate::process::Process;
use crate::web::Web;
use crate::{assets, ports};

const START: Duration = Duration::from_secs(20);

/// It notifies no one: its list of alerts is what counts.
const CONFIGURATION: &str = "route: {receiver: absent}\nreceivers: [{name: absent}]\n";

/// A running Alertmanager.
pub struct Alertmanager {
    folder: PathBuf,
    address: IpAddr,
    port: u16,
    /// Returns the peers of its cluster.
    cluster: Vec<String>,
    process: Option<Process>,
}

impl Alertmanager {
    /// Starts one on its own.
    pub async fn start(folder: &Path) -> Result<Self, Error> {
        // Without an address it looks for no others.
        let alone = vec!["--cluster.listen-address=".to_owned()];
        Self::start_at(folder, Ipv4Addr::LOCALHOST.into(), ports::free(), alone).await
    }

    /// Starts two that are a cluster, at two addresses and one port, as behind a headless Service.
    pub async fn pair(folder: &Path) -> Result<[Self; 2], Error> {
        let (port, gossip) = (ports::free(), ports::free());
        let address = |last: u8| IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
        let first = vec![format!("--cluster.listen-address=127.0.0.2:{gossip}")];
        let second = vec![
            format!("--cluster.listen-address=127.0.0.3:{gossip}"),
            format!("--cluster.peer=127.0.0.2:{gossip}"),
        ];
        Ok([
            Self::start_at(folder, address(2), port, first).await?,
            Self::start_at(folder, address(3), port, second).await?,
        ])
    }

    async fn start_at(folder: &Path, address: IpAddr, port: u16, cluster: Vec<String>) -> Result<Self, Error> {
        let folder = folder.join(format!("alertmanager-{address}-{port}"));
        std::fs::create_dir_all(&folder).doing("making Alertmanager's folder")?;
        write_private(&folder.join("alertmanager.yml"), CONFIGURATION)?;
        let mut started = Self {
            folder,
            address,
            port,
            cluster,
            process: None,
        };
        started.again().await?;
        Ok(started)
    }

    /// Returns its address as users write it.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.address, self.port)
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> (IpAddr, u16) {
        (self.address, self.port)
    }

    /// Ends it. It keeps silences in its folder, and forgets alerts.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, where it was.
    pub async fn again(&mut self) -> Result<(), Error> {
        let mut command = Command::new(assets::alertmanager()?);
        command
            .arg(format!(
                "--config.file={}",
                self.folder.join("alertmanager.yml").display()
            ))
            .arg(format!("--storage.path={}", self.folder.join("data").display()))
            .arg(format!("--web.listen-address={}:{}", self.address, self.port))
            .args(&self.cluster);
        let mut process = Process::spawn("alertmanager", command, &self.folder.join("alertmanager.log"))?;
        let (web, url) = (Web::plain(), format!("{}/-/ready", self.url()));
        process
            .ready(START, || async {
                let answer = web.get(&url).await.ok()?;
                answer.0.is_success().then_some(())
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// The alerts that are active, by the names of their Certificates; silenced ones are among them.
    pub async fn active(&self) -> Vec<Value> {
        let url = format!("{}/api/v2/alerts?active=true&silenced=true", self.url());
        let Ok((status, text)) = Web::plain().get(&url).await else {
            return Vec::new();
        };
        assert!(status.is_success(), "{status}: {text}");
        let mut alerts: Vec<Value> = serde_json::from_str(&text).expect("alerts");
        alerts.sort_by_key(|alert| alert["labels"]["certificate"].as_str().map(str::to_owned));
        alerts
    }

    /// Silences what has the label for an hour; gives the silence's id.
    pub async fn silence(&self, label: &str, value: &str) -> Result<String, Error> {
        let now = Timestamp::now();
        let silence = json!({
            "matchers": [{"name": label, "value": value, "isRegex": false, "isEqual": true}],
            "startsAt": now, "endsAt": now + SignedDuration::from_hours(1),
            "createdBy": "gatehouse-tests", "comment": "known",
        });
        let url = format!("{}/api/v2/silences", self.url());
        let (status, text) = Web::plain().post(&url, &silence.to_string()).await?;
        assert!(status.is_success(), "{status}: {text}");
        let answer: Value = serde_json::from_str(&text).expect("an answer");
        Ok(answer["silenceID"].as_str().expect("an id").to_owned())
    }
}
