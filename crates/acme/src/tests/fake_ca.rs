//! A small ACME server, without TLS, that counts requests, checks signatures and fails on demand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use futures::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::{Account, AccountKey, AccountOptions, AcmeClient, Endpoint, HttpClient, HttpOptions, RequestObserver};

/// The next answer of an endpoint, in place of the right one.
pub(super) enum Fault {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
    /// Never answers.
    Hang,
    /// Breaks the connection in the middle of the answer.
    Cut,
    /// Carries the request out, and answers with this status and a page.
    After(u16),
    /// Is none: the answer is as the protocol says.
    Right,
}

/// An answer with a problem document.
pub(super) fn problem(status: u16, kind: &str) -> Fault {
    let body = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "scripted"});
    Fault::Answer(status, vec![], body.to_string())
}

/// A 500 with these words.
pub(super) fn server_error(detail: &str) -> Fault {
    let body = json!({"type": "urn:ietf:params:acme:error:serverInternal", "detail": detail});
    Fault::Answer(500, vec![], body.to_string())
}

struct Order {
    object: Value,
    authorizations: Vec<usize>,
}

#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "switches, each by itself")]
pub(super) struct Script {
    base: String,
    pub(super) log: Vec<&'static str>,
    pub(super) payloads: Vec<(&'static str, Value)>,
    pub(super) user_agents: BTreeSet<String>,
    faults: BTreeMap<&'static str, VecDeque<Fault>>,
    pub(super) bad_nonce_percent: u32,
    seed: u32,
    nonces: BTreeSet<String>,
    next_nonce: u32,
    pub(super) accounts: Vec<Value>,
    orders: Vec<Order>,
    pub(super) authorizations: Vec<Value>,
    pub(super) meta: Value,
    pub(super) no_ari: bool,
    /// The wrong answer to a challenge.
    pub(super) fail_validation: bool,
    /// Polls until a challenge has been looked at.
    pub(super) slow_validation: u32,
    pub(super) hide_contacts: bool,
    pub(super) chain: String,
    /// Not even a look-up of an account is answered without a binding.
    pub(super) demands_binding: bool,
    /// Changes the objects of an endpoint on their way out.
    pub(super) rewrite: Option<Rewrite>,
}

pub(super) type Rewrite = Box<dyn Fn(&str, &mut Value) + Send>;

#[derive(Clone)]
pub(super) struct FakeCa(Arc<Mutex<Script>>);

impl FakeCa {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let ca = Self(Arc::new(Mutex::new(Script {
            base,
            // With CRLF, as some servers have it.
            chain: pem::encode(&pem::Pem::new("CERTIFICATE", b"leaf".to_vec())),
            ..Script::default()
        })));
        let router = Router::new().fallback(serve).with_state(ca.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        ca
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    pub(super) fn fail(&self, endpoint: Endpoint, fault: Fault) {
        let mut script = self.script();
        let faults = script.faults.entry(endpoint.as_str()).or_default();
        faults.push_back(fault);
    }

    /// The endpoints that were asked since the last call, in order.
    pub(super) fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.script().log)
    }

    /// The last payload for an endpoint.
    pub(super) fn payload(&self, endpoint: Endpoint) -> Value {
        let script = self.script();
        let mut payloads = script.payloads.iter().rev();
        let found = payloads.find(|(name, _)| *name == endpoint.as_str());
        found.map(|(_, payload)| payload.clone()).unwrap_or_default()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.script().base)
    }

    pub(super) fn client(&self) -> Arc<AcmeClient> {
        let http = HttpClient::new(&options(true), Arc::new(Quiet)).unwrap();
        Arc::new(AcmeClient::new(http, &self.url("/directory")))
    }

    pub(super) async fn account(&self) -> Account {
        let key = Arc::new(AccountKey::generate().unwrap().0);
        let options = AccountOptions {
            terms_agreed: true,
            ..AccountOptions::default()
        };
        let account = Account::establish(self.client(), key, &options).await.unwrap();
        self.asked();
        account
    }
}

/// With a root of its own, so that no test depends on those of the machine.
pub(super) fn options(allow_loopback: bool) -> HttpOptions {
    let key = rcgen::generate_simple_self_signed(["root.test".to_owned()]).unwrap();
    HttpOptions {
        ca_bundle: Some(key.cert.pem().into_bytes()),
        allow_loopback,
        ..HttpOptions::default()
    }
}

pub(super) struct Quiet;

impl RequestObserver for Quiet {
    fn request(&self, _: &str, _: Endpoint, _: u16, _: Duration) {}
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply {
        status,
        headers: vec![],
        body: body.to_string(),
    }
}

fn refusal(status: u16, kind: &str) -> Reply {
    let urn = format!("urn:ietf:params:acme:error:{kind}");
    json_reply(status, &json!({"type": urn, "detail": "as the protocol says"}))
}

async fn serve(State(ca): State<FakeCa>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let agent = parts.headers.get("user-agent").map(|v| v.to_str().unwrap());
    let path = parts.uri.path().to_owned();
    let endpoint = endpoint(&path);
    let fault = {
        let mut script = ca.script();
        script.log.push(endpoint);
        script.user_agents.extend(agent.map(str::to_owned));
        let faults = script.faults.get_mut(endpoint);
        faults.and_then(VecDeque::pop_front)
    };
    let reply = match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Cut) => {
            let pieces = [Ok("{"), Err(std::io::Error::other("cut"))];
            return Response::new(Body::from_stream(stream::iter(pieces)));
        }
        Some(Fault::Answer(status, headers, body)) => Reply {
            status,
            headers: headers.into_iter().map(|(n, v)| (n, v.to_owned())).collect(),
            body,
        },
        Some(Fault::After(status)) => {
            ca.script().answer(endpoint, &path, &body);
            let (headers, body) = (vec![], "<html>Gateway Timeout".to_owned());
            Reply { status, headers, body }
        }
        Some(Fault::Right) | None => ca.script().rewritten(endpoint, &path, &body),
    };
    let nonce = ca.script().nonce();
    let mut response = Response::builder().status(reply.status).header("replay-nonce", nonce);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).unwrap()
}

fn endpoint(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap() {
        "directory" => "directory",
        "nonce" => "newNonce",
        "new-account" => "newAccount",
        "account" => "account",
        "new-order" => "newOrder",
        "order" => "order",
        "authz" => "authz",
        "challenge" => "challenge",
        "key-change" => "keyChange",
        "finalize" => "finalize",
        "certificate" => "certificate",
        "ari" => "renewalInfo",
        other => panic!("no such path: {other}"),
    }
}

impl Script {
    fn nonce(&mut self) -> String {
        self.next_nonce += 1;
        let nonce = format!("nonce-{}", self.next_nonce);
        self.nonces.insert(nonce.clone());
        nonce
    }

    fn unlucky(&mut self) -> bool {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.seed >> 16) % 100 < self.bad_nonce_percent
    }

    fn rewritten(&mut self, endpoint: &'static str, path: &str, body: &[u8]) -> Reply {
        let mut reply = self.answer(endpoint, path, body);
        if let Some(rewrite) = &self.rewrite
            && reply.status < 300
            && let Ok(mut object) = serde_json::from_str(&reply.body)
        {
            rewrite(endpoint, &mut object);
            reply.body = object.to_string();
        }
        reply
    }

    fn answer(&mut self, endpoint: &'static str, path: &str, body: &[u8]) -> Reply {
        match endpoint {
            "directory" => return json_reply(200, &self.directory()),
            "newNonce" => return json_reply(200, &Value::Null),
            "renewalInfo" => {
                let window = json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"});
                return json_reply(200, &json!({"suggestedWindow": window}));
            }
            _ => {}
        }
        let jws: Value = serde_json::from_slice(body).unwrap();
        let header = part(&jws["protected"]);
        assert_eq!(header["url"], format!("{}{path}", self.base), "the url is signed");
        let nonce = header["nonce"].as_str().unwrap();
        if !self.nonces.remove(nonce) || self.unlucky() {
            return refusal(400, "badNonce");
        }
        let (account, jwk) = match header["kid"].as_str() {
            Some(kid) => {
                let index: usize = kid.rsplit('/').next().unwrap().parse().unwrap();
                match self.accounts.get(index) {
                    Some(account) => (Some(index), account["jwk"].clone()),
                    None => return refusal(400, "accountDoesNotExist"),
                }
            }
            None => (None, header["jwk"].clone()),
        };
        verify(&jws, &jwk);
        let payload = match jws["payload"].as_str().unwrap() {
            "" => Value::Null,
            _ => part(&jws["payload"]),
        };
        self.payloads.push((endpoint, payload.clone()));
        let index = path.split('/').nth(2).and_then(|index| index.parse().ok());
        match (endpoint, account) {
            ("newAccount", None) => self.new_account(&jwk, &payload),
            ("account", Some(index)) => {
                if !payload.is_null() {
                    self.accounts[index]["contact"] = payload["contact"].clone();
                }
                json_reply(200, &self.accounts[index])
            }
            ("keyChange", Some(index)) => {
                let header = part(&payload["protected"]);
                assert_eq!(header["url"], format!("{}{path}", self.base));
                assert!(header.get("nonce").is_none(), "{header}");
                verify(&payload, &header["jwk"]);
                let change = part(&payload["payload"]);
                assert_eq!(change["oldKey"], self.accounts[index]["jwk"]);
                self.accounts[index]["jwk"] = header["jwk"].clone();
                json_reply(200, &json!({}))
            }
            ("newOrder", Some(_)) => self.new_order(&payload),
            ("order", Some(_)) => json_reply(200, &self.order(index.unwrap())),
            ("authz", Some(_)) => self.authorization(index.unwrap()),
            ("challenge", Some(_)) => self.challenge(index.unwrap()),
            ("finalize", Some(_)) => self.finalize(index.unwrap()),
            ("certificate", Some(_)) => Reply {
                status: 200,
                headers: vec![
                    ("link", format!(r#"<{}/directory>;rel="index""#, self.base)),
                    ("link", r#"</certificate/0/1>;rel="alternate""#.to_owned()),
                ],
                body: self.chain.clone(),
            },
            other => panic!("wrong signer: {other:?}"),
        }
    }

    fn directory(&self) -> Value {
        let url = |path: &str| format!("{}{path}", self.base);
        let mut directory = json!({
            "newNonce": url("/nonce"),
            "newAccount": url("/new-account"),
            "newOrder": url("/new-order"),
            "keyChange": url("/key-change"),
            "meta": self.meta.as_object().cloned().unwrap_or_default(),
        });
        if !self.no_ari {
            directory["renewalInfo"] = json!(url("/ari"));
        }
        directory
    }

    fn new_account(&mut self, jwk: &Value, payload: &Value) -> Reply {
        let known = self.accounts.iter().position(|account| account["jwk"] == *jwk);
        if self.demands_binding && !payload["externalAccountBinding"].is_object() {
            return refusal(403, "externalAccountRequired");
        }
        let (status, index) = match known {
            Some(index) => (200, index),
            None if payload["onlyReturnExisting"] == true => {
                return refusal(400, "accountDoesNotExist");
            }
            None if payload["termsOfServiceAgreed"] != true => {
                return refusal(403, "userActionRequired");
            }
            None => {
                let account = json!({"status": "valid", "contact": payload["contact"], "jwk": jwk});
                self.accounts.push(account);
                (201, self.accounts.len() - 1)
            }
        };
        let mut account = self.accounts[index].clone();
        if self.hide_contacts {
            account["contact"] = Value::Null;
        }
        Reply {
            headers: vec![("location", format!("/account/{index}"))],
            ..json_reply(status, &account)
        }
    }

    fn new_order(&mut self, payload: &Value) -> Reply {
        let mut authorizations = vec![];
        for identifier in payload["identifiers"].as_array().unwrap() {
            let index = self.authorizations.len();
            let name = identifier["value"].as_str().unwrap();
            let challenge = |kind: &str| {
                json!({"type": kind, "status": "pending", "token": format!("token-{index}"),
                    "url": format!("{}/challenge/{index}/{kind}", self.base)})
            };
            self.authorizations.push(json!({
                "identifier": {"type": identifier["type"], "value": name.trim_start_matches("*.")},
                "wildcard": name.starts_with("*."),
                "status": "pending", "polls": 0, "submitted": false,
                "challenges": [challenge("http-01"), challenge("dns-01"), {"type": "dns-persist-01", "status": "pending", "url": "x:"}],
            }));
            authorizations.push(index);
        }
        let index = self.orders.len();
        let url = |kind: &str, index: usize| format!("{}/{kind}/{index}", self.base);
        let mut object = json!({
            "status": "pending",
            "expires": "2999-01-01T00:00:00Z",
            "authorizations": authorizations.iter().map(|a| url("authz", *a)).collect::<Vec<_>>(),
            "finalize": url("finalize", index),
        });
        if payload["replaces"].is_string() {
            object["replaces"] = payload["replaces"].clone();
        }
        self.orders.push(Order {
            object: object.clone(),
            authorizations,
        });
        Reply {
            headers: vec![("location", url("order", index))],
            ..json_reply(201, &object)
        }
    }

    fn order(&mut self, index: usize) -> Value {
        let authorizations = self.orders[index].authorizations.clone();
        for authorization in &authorizations {
            self.look(*authorization);
        }
        let has = |status: &str| {
            let mut all = authorizations.iter().map(|a| &self.authorizations[*a]["status"]);
            all.any(|s| s == status)
        };
        let (invalid, pending) = (has("invalid"), has("pending"));
        let object = &mut self.orders[index].object;
        match object["status"].as_str().unwrap() {
            "pending" if invalid => object["status"] = json!("invalid"),
            "pending" if !pending => object["status"] = json!("ready"),
            "processing" => {
                object["status"] = json!("valid");
                object["certificate"] = json!(format!("{}/certificate/{index}", self.base));
            }
            _ => {}
        }
        object.clone()
    }

    /// Decides a submitted challenge when its time has come.
    fn look(&mut self, index: usize) {
        let (slow, fail) = (self.slow_validation, self.fail_validation);
        let authorization = &mut self.authorizations[index];
        if authorization["submitted"] != true || authorization["status"] != "pending" {
            return;
        }
        let polls = authorization["polls"].as_u64().unwrap();
        authorization["polls"] = json!(polls + 1);
        if polls < u64::from(slow) {
            return;
        }
        let status = if fail { "invalid" } else { "valid" };
        authorization["status"] = json!(status);
        authorization["challenges"][0]["status"] = json!(status);
        if fail {
            authorization["challenges"][0]["error"] =
                json!({"type": "urn:ietf:params:acme:error:connection", "detail": "refused"});
        }
    }

    fn authorization(&mut self, index: usize) -> Reply {
        self.look(index);
        Reply {
            headers: vec![("retry-after", "3".to_owned())],
            ..json_reply(200, &self.authorizations[index])
        }
    }

    fn challenge(&mut self, index: usize) -> Reply {
        let authorization = &mut self.authorizations[index];
        if authorization["status"] != "pending" {
            return refusal(400, "malformed");
        }
        authorization["submitted"] = json!(true);
        json_reply(200, &authorization["challenges"][0])
    }

    fn finalize(&mut self, index: usize) -> Reply {
        if self.order(index)["status"] != "ready" {
            return refusal(403, "orderNotReady");
        }
        self.orders[index].object["status"] = json!("processing");
        json_reply(200, &self.orders[index].object)
    }
}

fn decoded(text: &Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

fn part(text: &Value) -> Value {
    serde_json::from_slice(&decoded(text)).unwrap()
}

fn verify(jws: &Value, jwk: &Value) {
    let (protected, payload) = (&jws["protected"], &jws["payload"]);
    let message = format!("{}.{}", protected.as_str().unwrap(), payload.as_str().unwrap());
    let (message, signature) = (message.as_bytes(), decoded(&jws["signature"]));
    let alg = part(protected)["alg"].clone();
    let point = || [vec![4], decoded(&jwk["x"]), decoded(&jwk["y"])].concat();
    let holds = match alg.as_str().unwrap() {
        "ES256" => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point()).verify(message, &signature),
        "ES384" => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point()).verify(message, &signature),
        "RS256" => {
            let (n, e) = (decoded(&jwk["n"]), decoded(&jwk["e"]));
            RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature)
        }
        other => panic!("no such algorithm: {other}"),
    };
    holds.expect("the signature holds");
}
