//! An Alertmanager whose name has several addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

/// Every name has these addresses.
struct Fixed(Vec<IpAddr>);

#[async_trait]
impl Lookup for Fixed {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.clone())
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Servers at 127.0.0.2, 127.0.0.3 … of one port, which answer so.
async fn servers(answers: &[&str]) -> Vec<Server> {
    let first = Server::at("127.0.0.2:0", answers[0], None).await;
    let mut servers = vec![first];
    for (place, answer) in answers.iter().enumerate().skip(1) {
        let address = format!("127.0.0.{}:{}", place + 2, servers[0].port);
        servers.push(Server::at(&address, *answer, None).await);
    }
    servers
}

async fn send(servers: &[Server], format: &str, addresses: Vec<IpAddr>) -> Result<Accepted, Failure> {
    let url = format!("http://alertmanager.test:{}", servers[0].port);
    let target = target(json!({"url": url, "format": format})).await;
    let sender = Sender::with_lookup("prod", true, Box::new(Fixed(addresses)));
    sender.send(&target, &alert(), now()).await
}

fn seen(servers: &[Server]) -> Vec<usize> {
    servers.iter().map(|server| server.seen().len()).collect()
}

#[tokio::test]
async fn every_address_of_an_alertmanagers_name_gets_every_alert() {
    let servers = servers(&[OK, OK]).await;
    let accepted = send(&servers, "Alertmanager", vec![v4(2), v4(3), v4(2)]).await.unwrap();
    assert_eq!((accepted.status, seen(&servers)), (Some(StatusCode::OK), vec![1, 1]));
    let requests: Vec<_> = servers.iter().flat_map(Server::seen).collect();
    assert_eq!(requests[0], requests[1]);
    assert!(requests[0].0.contains("host: alertmanager.test:"), "{}", requests[0].0);
}

#[tokio::test]
async fn what_one_of_two_alertmanagers_did_not_take_is_no_delivery_and_says_which() {
    let servers = servers(&[OK, BUSY]).await;
    let failure = send(&servers, "Alertmanager", vec![v4(2), v4(3)]).await.unwrap_err();
    assert_eq!((failure.kind, seen(&servers)), (FailureKind::Partial, vec![1, 1]));
    let port = servers[0].port;
    let message = format!(
        "1 of the 2 addresses of http://alertmanager.test:{port} did not take it, the others did; 127.0.0.3: \
         http://alertmanager.test:{port} answered 503 Service Unavailable: see its logs"
    );
    assert_eq!(failure.message, message);
}

#[tokio::test]
async fn when_no_address_takes_it_the_failure_is_theirs() {
    let servers = servers(&[BUSY, BUSY]).await;
    let failure = send(&servers, "Alertmanager", vec![v4(2), v4(3)]).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
}

#[tokio::test]
async fn a_family_of_addresses_that_leads_nowhere_does_not_matter() {
    let servers = servers(&[OK, OK]).await;
    // No server listens on IPv6.
    let addresses = vec![v4(2), v4(3), Ipv6Addr::LOCALHOST.into()];
    assert!(send(&servers, "Alertmanager", addresses).await.is_ok());
    assert_eq!(seen(&servers), [1, 1]);
}

#[tokio::test]
async fn addresses_are_bounded() {
    let servers = servers(&[OK]).await;
    let many = (2..=250).map(v4).collect();
    let failure = send(&servers, "Alertmanager", many).await.unwrap_err();
    assert!(
        failure.message.contains("31 of the 32 addresses"),
        "{}",
        failure.message
    );
}
