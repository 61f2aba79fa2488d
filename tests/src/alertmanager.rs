//! Prometheus' Alertmanager, to which alerts are posted as to the one that people have.

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

/// It tells nobody: what it shows is what counts.
const CONFIGURATION: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// A running Alertmanager, without others in a cluster.
pub struct Alertmanager {
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Alertmanager {
    /// Starts it.
    pub async fn start(folder: &Path) -> Result<Self, Error> {
        let port = ports::free();
        let folder = folder.join(format!("alertmanager-{port}"));
        std::fs::create_dir_all(&folder).doing("making Alertmanager's folder")?;
        write_private(&folder.join("alertmanager.yml"), CONFIGURATION)?;
        let mut started = Self {
            folder,
            port,
            process: None,
        };
        started.again().await?;
        Ok(started)
    }

    /// What people write as its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            // On its own; empty, or it looks for others.
            .arg("--cluster.listen-address=");
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
