//! The commands that people call: the real binary against the real API server, with the operator and without.
// A scenario is read from top to bottom, however long; its values are made in place.
#![allow(
    clippy::too_many_lines,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::needless_pass_by_value
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

#[path = "commands/gateways.rs"]
mod gateways;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use gatehouse_crds::alert::AlertPolicy;
use gatehouse_crds::certificate::Certificate;
use gatehouse_tests::isolated_operator::by_gate;
use gatehouse_tests::process::{Signal, eventually};
use gatehouse_tests::shared_operator::{SOON, text};
use gatehouse_tests::{Gate, SharedOperator, TestCluster, Tool, control_plane, operator, ports, test_cluster};
use http::Method;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// Output of a command, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// Panics unless it ended with this code and said all of this.
    #[track_caller]
    fn expect(&self, code: i32, out: &[&str], err: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for words in out {
            assert!(self.out.contains(words), "stdout lacks {words:?}:\n{}", self.out);
        }
        for words in err {
            assert!(self.err.contains(words), "stderr lacks {words:?}:\n{}", self.err);
        }
        if err.is_empty() {
            assert_eq!(self.err, "", "nothing is to be said on stderr");
        }
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// The binary with a kubeconfig; none, with an environment in which there is none.
fn command(kubeconfig: Option<&Path>, args: &[&str]) -> Command {
    let mut command = Command::new(operator::binary().unwrap());
    command
        .args(args)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/nonexistent/config")))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(kubeconfig: Option<&Path>, args: &[&str]) -> Said {
    said(command(kubeconfig, args)).await
}

async fn said(mut command: Command) -> Said {
    let output = tokio::time::timeout(Duration::from_mins(2), command.output())
        .await
        .expect("the command ends")
        .unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A stage whose commands go to its own namespace.
struct Shell {
    shared: SharedOperator,
    kubeconfig: PathBuf,
}

impl Shell {
    async fn open(name: &str) -> Self {
        let shared = SharedOperator::set(name).await;
        let kubeconfig = shared.test_cluster.plane.kubeconfig();
        Self { shared, kubeconfig }
    }

    async fn run(&self, args: &[&str]) -> Said {
        let args: Vec<&str> = args.iter().copied().chain(["-n", &self.shared.namespace]).collect();
        run(Some(&self.kubeconfig), &args).await
    }

    /// A self-signing issuer `own` and Certificates by it, ready.
    async fn certificates(&self, names: &[&str]) {
        self.shared.issuer("own", json!({"selfSigned": {}})).await;
        for name in names {
            let spec = json!({"issuerRef": {"name": "own"}, "dnsNames": [format!("{name}.test")]});
            self.shared.certificate(name, spec).await;
        }
        for name in names {
            self.shared.ready(name, 1).await;
        }
    }
}

/// A control plane without an operator: requests without an answer, and Certificates in any number.
async fn lonely() -> Arc<TestCluster> {
    static LONELY: tokio::sync::OnceCell<Arc<TestCluster>> = tokio::sync::OnceCell::const_new();
    let start = || async {
        let test_cluster = TestCluster::start(test_cluster::Options {
            control_plane: control_plane::Options::default(),
            ..test_cluster::Options::default()
        })
        .await
        .unwrap();
        // Before the CRDs exist: the commands say so.
        let kubeconfig = test_cluster.plane.kubeconfig();
        for args in [
            &["status"][..],
            &["status", "web"],
            &["renew", "--all"],
            &["test-alert", "ops"],
        ] {
            run(Some(&kubeconfig), args)
                .await
                .expect(2, &[], &["gatehouse crds | kubectl apply"]);
        }
        test_cluster.cluster().await.install_crds().await.unwrap();
        Arc::new(test_cluster)
    };
    Arc::clone(LONELY.get_or_init(start).await)
}

#[tokio::test]
async fn status_of_what_is_fine() {
    let shell = Shell::open("cli-fine").await;
    shell
        .run(&["status"])
        .await
        .expect(0, &["No certificates in namespace cli-fine-"], &[]);
    shell.certificates(&["a", "b"]).await;

    let table = shell.run(&["status"]).await;
    table.expect(
        0,
        &[
            "NAME   READY   SECRET",
            "a      True    a-tls    own      in ",
            "2 certificates: 2 fine",
        ],
        &[],
    );
    assert!(
        !table.out.contains('\x1b'),
        "no colours but on a terminal: {}",
        table.out
    );
    shell
        .run(&["status", "-o", "wide"])
        .await
        .expect(0, &["SERIAL", "FINGERPRINT"], &[]);

    let list = shell.run(&["status", "-o", "json"]).await.expect(0, &[], &[]).json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("List"), &json!("v1")));
    let names: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(list["items"][0]["kind"], "Certificate");
    assert_eq!(list["items"][0]["metadata"]["managedFields"], Value::Null);
    let yaml = shell.run(&["status", "-o", "yaml"]).await;
    let read: Value = serde_saphyr::from_str(&yaml.expect(0, &[], &[]).out).unwrap();
    assert_eq!(read, list);
    let one = shell
        .run(&["status", "a", "-o", "json"])
        .await
        .expect(0, &[], &[])
        .json();
    assert_eq!(one, list["items"][0]);

    shell
        .run(&["status", "-l", "app=none"])
        .await
        .expect(0, &["No certificates"], &[]);
    let story = shell.run(&["status", "a"]).await;
    let parts = [
        "is fine",
        "What is wanted",
        "What exists",
        "it is what the spec asks for",
        "Who signed",
        "Issuer own",
        "What happened",
        "Issued",
        "What is next",
        "when a third of its lifetime is left",
    ];
    story.expect(0, &parts, &[]);
    let mut from = 0;
    for part in parts {
        from += story.out[from..]
            .find(part)
            .unwrap_or_else(|| panic!("{part:?} is not in its place:\n{}", story.out));
    }
    assert!(!story.out.contains("What to do"), "{}", story.out);
    shell
        .run(&["status", "absent"])
        .await
        .expect(1, &[], &["\"absent\" not found"]);
}

#[tokio::test]
async fn status_of_what_fails_names_the_cause_and_what_to_do() {
    let shell = Shell::open("cli-failing").await;
    shell.certificates(&["fine"]).await;
    let spec = json!({"issuerRef": {"name": "nowhere"}, "dnsNames": ["lost.test"]});
    shell.shared.certificate("lost", spec).await;
    shell.shared.refused("lost", "IssuerNotReady", &["nowhere"]).await;
    shell.shared.make_secret("taken-tls", "Opaque", &[("k", "v")]).await;
    let spec = json!({"issuerRef": {"name": "own"}, "dnsNames": ["taken.test"]});
    shell.shared.certificate("taken", spec).await;
    shell.shared.refused("taken", "SecretConflict", &["taken-tls"]).await;

    let table = shell.run(&["status"]).await;
    // It can be copied, wherever the context points to then.
    let next = format!("gatehouse status -n {} lost", shell.shared.namespace);
    table.expect(
        1,
        &[
            "IssuerNotReady",
            "SecretConflict",
            "3 certificates: 1 fine, 2 failing",
            &next,
        ],
        &[],
    );
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(
        lines[1].starts_with("lost ") && lines[3].starts_with("fine "),
        "the failing come first:\n{}",
        table.out
    );
    assert_eq!(shell.run(&["status", "-o", "json"]).await.code, Some(1));

    shell.run(&["status", "lost"]).await.expect(
        1,
        &[
            "lost is failing: IssuerNotReady",
            "lost-tls does not exist",
            "Issuer nowhere does not exist",
            "Next attempt",
            "What to do",
            "Fix the issuer, or name another",
            "Make the issuer, or correct issuerRef",
            "renew -n",
        ],
        &[],
    );
    shell.run(&["status", "taken"]).await.expect(
        1,
        &[
            "taken is failing: SecretConflict",
            "which Gatehouse did not write",
            "cannot serve: it is of type Opaque",
            "gatehouse.dev/adopt=true",
        ],
        &[],
    );
    assert_eq!(shell.run(&["status", "taken", "-o", "yaml"]).await.code, Some(1));
}

#[tokio::test]
async fn renew_waits_for_the_new_certificate_and_tells_a_failure() {
    let shell = Shell::open("cli-renew").await;
    shell.certificates(&["a", "b"]).await;
    let name = |name: &str| format!("certificate {}/{name}", shell.shared.namespace);

    let started = Instant::now();
    let renewed = shell.run(&["renew", "a", "--wait"]).await;
    assert_eq!(renewed.code, Some(0), "{renewed:#?}");
    assert!(
        renewed.out.contains(&format!("{}: renewal requested at ", name("a"))),
        "{renewed:#?}"
    );
    assert!(
        renewed.out.contains(&format!("{}: renewed ", name("a"))),
        "{renewed:#?}"
    );
    assert!(renewed.out.contains("revision 2, good until "), "{renewed:#?}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    // In the same second, perhaps: it is another request all the same.
    assert_eq!(shell.run(&["renew", "a", "--wait"]).await.code, Some(0));
    shell.shared.ready("a", 3).await;
    shell
        .run(&["renew", "--all"])
        .await
        .expect(0, &[&name("a"), &name("b")], &[]);
    shell.shared.ready("b", 2).await;
    shell.shared.ready("a", 4).await;

    let missing = shell.run(&["renew", "absent", "b"]).await;
    missing.expect(1, &[&name("b")], &["\"absent\" not found"]);
    shell.shared.ready("b", 3).await;
    shell
        .run(&["renew", "-l", "app=none"])
        .await
        .expect(0, &[], &["No such certificates."]);

    let spec = json!({"spec": {"issuerRef": {"name": "nowhere"}}});
    shell.shared.patch(&shell.shared.certificates(), "b", &spec).await;
    // Twice: the same failure again is an answer, too.
    for _ in 0..2 {
        let failed = shell.run(&["renew", "b", "--wait", "--timeout", "45s"]).await;
        assert_eq!(failed.code, Some(1), "{failed:#?}");
        for words in ["failed, IssuerNotReady", "nowhere", "What to do: Fix the issuer"] {
            assert!(failed.out.contains(words), "{failed:#?}");
        }
    }

    shell
        .shared
        .patch(&shell.shared.certificates(), "a", &json!({"spec": {"suspend": true}}))
        .await;
    shell
        .run(&["renew", "a"])
        .await
        .expect(0, &["but it is suspended"], &[]);
    shell
        .run(&["renew", "a", "--wait"])
        .await
        .expect(1, &["but it is suspended"], &[]);
    shell
        .run(&["status", "a"])
        .await
        .expect(0, &["is suspended", "spec.suspend is taken away"], &[]);
    shell.run(&["renew"]).await.expect(2, &[], &["NAME"]);
    shell.run(&["renew", "a", "--all"]).await.expect(2, &[], &["--all"]);
}

#[tokio::test]
async fn inspect_decodes_a_secret_and_finds_what_does_not_fit() {
    let shell = Shell::open("cli-inspect").await;
    shell.shared.internal_ca("ca").await;
    let keystore = json!({"pkcs12": {"create": true, "passwordSecretRef": {"name": "password", "key": "p"}}});
    shell
        .shared
        .make_secret("password", "Opaque", &[("p", "changeit")])
        .await;
    for name in ["one", "two"] {
        let spec = json!({"issuerRef": {"name": "ca"}, "dnsNames": [format!("{name}.test")], "keystores": keystore});
        shell.shared.certificate(name, spec).await;
    }
    shell.shared.ready("one", 1).await;
    shell.shared.ready("two", 1).await;
    let (one, two) = (
        shell.shared.secret("one-tls").await,
        shell.shared.secret("two-tls").await,
    );

    let reported = shell.run(&["inspect", "secret", "one-tls"]).await;
    reported.expect(
        0,
        &[
            "Gatehouse, for Certificate one, signed by Issuer/ca",
            "Certificate 1 of 1: leaf",
            "one.test",
            "server auth",
            "Fits            certificate 1",
            "the chain ends at ca of",
            "keystore.p12",
        ],
        &[],
    );
    let key = text(&one, "tls.key");
    for line in key.lines().filter(|line| line.len() > 20) {
        assert!(!reported.out.contains(line), "a part of the private key is shown");
    }

    let data = [("tls.crt", text(&one, "tls.crt")), ("tls.key", text(&two, "tls.key"))];
    let data: Vec<(&str, &str)> = data.iter().map(|(name, value)| (*name, value.as_str())).collect();
    shell.shared.make_secret("mixed", "kubernetes.io/tls", &data).await;
    shell
        .run(&["inspect", "secret", "mixed"])
        .await
        .expect(1, &["none of the certificates: it is another key"], &[]);
    shell
        .run(&["inspect", "secret", "none"])
        .await
        .expect(1, &[], &["\"none\" not found"]);

    // Files need no cluster.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.pem");
    std::fs::write(&file, format!("{}{key}", text(&one, "tls.crt"))).unwrap();
    let file = file.to_string_lossy().into_owned();
    run(None, &["inspect", "secret", "-f", &file])
        .await
        .expect(0, &["one.test", "certificate 1"], &[]);
    run(None, &["inspect", "secret", "-f", "/nonexistent.pem"])
        .await
        .expect(2, &[], &["/nonexistent.pem cannot be read"]);
    let mut piped = command(None, &["inspect", "secret", "-f", "-"]);
    let mut child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text(&two, "tls.crt").as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("two.test"));
}

#[tokio::test]
async fn without_a_cluster_or_rights_the_commands_say_what_to_do() {
    run(None, &["status"])
        .await
        .expect(2, &[], &["no usable kubeconfig", "--kubeconfig or KUBECONFIG"]);
    let test_cluster = lonely().await;
    let file = test_cluster.folder().join("absent-there.kubeconfig");
    let absent = format!("127.0.0.1:{}", ports::free()).parse().unwrap();
    test_cluster.plane.admin().through(absent).write(&file).unwrap();
    let started = Instant::now();
    run(Some(&file), &["status"])
        .await
        .expect(2, &[], &["the API server cannot be reached", "refused"]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());

    let kubeconfig = test_cluster.plane.kubeconfig();
    run(Some(&kubeconfig), &["status", "--context", "elsewhere"])
        .await
        .expect(2, &[], &["elsewhere", "kubectl config get-contexts"]);
    run(Some(&kubeconfig), &["status", "-w", "-o", "json"])
        .await
        .expect(2, &[], &["--watch"]);
    let namespace = test_cluster.cluster().await.namespace("cli-rights").await;
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: stranger}\n";
    test_cluster.cluster().await.apply(&namespace, account).await;
    let stranger = test_cluster.plane.kubeconfig_for(&namespace, "stranger").await.unwrap();
    run(Some(&stranger), &["status", "-n", &namespace]).await.expect(
        2,
        &[],
        &["cannot list resource \"certificates\"", "RoleBinding"],
    );
    run(Some(&stranger), &["status", "-w", "-n", &namespace])
        .await
        .expect(2, &[], &["cannot list"]);
}

#[tokio::test]
async fn thousands_of_certificates_are_read_in_pages_and_soon() {
    const COUNT: usize = 1_200;
    let test_cluster = lonely().await;
    let cluster = test_cluster.cluster().await;
    let namespace = cluster.namespace("cli-many").await;
    let api: Api<Certificate> = cluster.api(&namespace);
    stream::iter(0..COUNT)
        .map(|number| {
            let api = api.clone();
            async move {
                let name = format!("c{number:04}");
                let spec = json!({"secretName": format!("{name}-tls"), "issuerRef": {"name": "ca"}, "dnsNames": [format!("{name}.test")]});
                api.create(&kube::api::PostParams::default(), &Certificate::new(&name, serde_json::from_value(spec).unwrap()))
                    .await
                    .unwrap();
            }
        })
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Issued", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1});
    let status = json!({"status": {"conditions": [condition("Ready", "True"), condition("Issuing", "False")],
        "notAfter": "2999-01-01T00:00:00Z", "renewalTime": "2998-01-01T00:00:00Z"}});
    for name in ["c0000", "c1199"] {
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }

    let gate = Gate::start(test_cluster.plane.address(), test_cluster.plane.ca_pem()).unwrap();
    let kubeconfig = by_gate(&test_cluster, &gate, test_cluster.plane.admin(), "cli-many").unwrap();
    let started = Instant::now();
    let said = run(Some(&kubeconfig), &["status", "-n", &namespace]).await;
    let took = started.elapsed();
    said.expect(1, &["1,200 certificates: 2 fine, 1,198 issuing"], &[]);
    assert_eq!(said.out.lines().filter(|line| line.starts_with('c')).count(), COUNT);
    let pages = gate
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("/certificates?") && seen.path.contains("limit=500"))
        .count();
    assert_eq!(
        pages,
        3,
        "{:?}",
        gate.seen().iter().map(|seen| &seen.path).collect::<Vec<_>>()
    );
    // This is a debug build on a busy machine; a release reads 5,000 in that time.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(gate.successes(&Method::GET, "/alertpolicies"), 1);

    // A reader that has seen enough is no error.
    let mut command = command(Some(&kubeconfig), &["status", "-n", &namespace]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &b""[..]));
}

#[tokio::test]
async fn watch_adds_what_changes_until_it_is_interrupted() {
    let test_cluster = lonely().await;
    let cluster = test_cluster.cluster().await;
    let namespace = cluster.namespace("cli-watch").await;
    let yaml = |name: &str| {
        format!(
            "apiVersion: gatehouse.dev/v1alpha1\nkind: Certificate\nmetadata: {{name: {name}}}\nspec: {{secretName: {name}-tls, issuerRef: {{name: ca}}, dnsNames: [{name}.test]}}\n"
        )
    };
    cluster.apply(&namespace, &yaml("first")).await;
    let kubeconfig = test_cluster.plane.kubeconfig();
    let mut child = command(Some(&kubeconfig), &["status", "--watch", "-n", &namespace])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = async |words: &str| {
        let found = tokio::time::timeout(SOON, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(words) {
                    return Some(line);
                }
            }
            None
        });
        found
            .await
            .ok()
            .flatten()
            .unwrap_or_else(|| panic!("{words:?} does not come"))
    };
    until("1 certificate: 1 issuing").await;
    cluster.apply(&namespace, &yaml("second")).await;
    until("second ").await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let status = tokio::time::timeout(SOON, child.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(status.code(), Some(1), "what it saw last is not healthy");
}

#[tokio::test]
async fn a_test_alert_is_asked_for_and_its_outcome_told() {
    let test_cluster = lonely().await;
    let cluster = test_cluster.cluster().await;
    let namespace = cluster.namespace("cli-alert").await;
    cluster
        .apply(
            &namespace,
            "apiVersion: gatehouse.dev/v1alpha1\nkind: AlertPolicy\nmetadata: {name: ops}\nspec:\n  receivers:\n  - {name: chat, webhook: {url: 'https://chat.test/'}}\n  - {name: mail, webhook: {url: 'https://mail.test/'}}\n",
        )
        .await;
    let kubeconfig = test_cluster.plane.kubeconfig();
    run(Some(&kubeconfig), &["test-alert", "absent", "-n", &namespace])
        .await
        .expect(1, &[], &["\"absent\" not found"]);
    run(
        Some(&kubeconfig),
        &["test-alert", "ops", "-n", &namespace, "--timeout", "2s"],
    )
    .await
    .expect(1, &["no answer within 2 s. Does the operator run"], &[]);

    // The operator's part, played by the test.
    let api: Api<AlertPolicy> = cluster.api(&namespace);
    let mut before = None;
    for (delivered, code) in [(true, 0), (false, 1)] {
        let annotation = |policy: &AlertPolicy| {
            policy
                .metadata
                .annotations
                .as_ref()?
                .get("gatehouse.dev/test-requested-at")
                .cloned()
        };
        before = before.or(annotation(&api.get("ops").await.unwrap()));
        let asking = tokio::spawn({
            let (kubeconfig, namespace) = (kubeconfig.clone(), namespace.clone());
            async move { run(Some(&kubeconfig), &["test-alert", "ops", "-n", &namespace]).await }
        });
        let asked = eventually("a request for a test", SOON, || async {
            annotation(&api.get("ops").await.unwrap()).filter(|asked| Some(asked) != before.as_ref())
        })
        .await;
        let result = |name: &str, delivered: bool| json!({"name": name, "delivered": delivered, "message": if delivered { "in 12 ms" } else { "it answered 500" }});
        let status = json!({"status": {"test": {"requestedAt": asked, "receivers": [result("chat", true), result("mail", delivered)]}}});
        api.patch_status("ops", &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
        let mail = if delivered {
            "mail: delivered: in 12 ms"
        } else {
            "mail: failed: it answered 500"
        };
        asking
            .await
            .unwrap()
            .expect(code, &["chat: delivered: in 12 ms", mail], &[]);
        before = Some(asked);
    }

    // Firing alerts and failing receivers are below the table.
    let status = json!({"status": {"firing": [{"certificate": format!("{namespace}/shop"), "rule": "expired", "severity": "critical", "since": "2026-01-01T00:00:00Z"}],
        "receivers": [{"name": "mail", "consecutiveFailures": 3, "pending": 1, "message": "it answered 500"}]}});
    api.patch_status("ops", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    run(Some(&kubeconfig), &["status", "-n", &namespace]).await.expect(
        1,
        &[
            &format!("AlertPolicy {namespace}/ops"),
            "critical: ",
            "receiver mail fails (3 in a row",
        ],
        &[],
    );
}

#[tokio::test]
async fn as_a_plugin_of_kubectl_it_answers_to_that_name() {
    let test_cluster = lonely().await;
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(operator::binary().unwrap(), folder.path().join("kubectl-gatehouse")).unwrap();
    let kubectl = |args: &[&str]| {
        let mut command = Command::new(test_cluster.assets().path(Tool::Kubectl));
        command
            .args(args)
            .env("PATH", folder.path())
            .env("KUBECONFIG", test_cluster.plane.kubeconfig())
            .stdin(Stdio::null());
        command
    };
    said(kubectl(&["gatehouse", "status", "--help"])).await.expect(
        0,
        &["Usage: kubectl gatehouse status [OPTIONS] [NAME]"],
        &[],
    );
    said(kubectl(&["gatehouse", "status", "-n", "kube-system"]))
        .await
        .expect(0, &["No certificates in namespace kube-system"], &[]);
    let hook = folder.path().join("kubectl_complete-gatehouse");
    std::fs::write(&hook, "#!/bin/sh\nexec kubectl-gatehouse __complete \"$@\"\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    said(kubectl(&["__complete", "gatehouse", "status", "--wa"]))
        .await
        .expect(
            0,
            &["--watch\tContinue, and show what changes"],
            &["ShellCompDirectiveNoFileComp"],
        );
    said(kubectl(&["gatehouse", "completions", "bash"]))
        .await
        .expect(0, &["_gatehouse()"], &[]);
}
