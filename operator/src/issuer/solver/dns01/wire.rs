//! One DNS message to one server and back.
//!
//! UDP on a connected socket of its own for each exchange: the kernel picks the port, drops what comes from
//! anywhere else, and reports a closed port at once. TCP when the answer was truncated, and beside UDP when that
//! is silent or closed: there are firewalls and servers that let through the one and not the other.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Waits for the answer to the first, second and third datagram. One lost datagram costs a second, and a dead
/// server less than five.
const UDP_TIMEOUTS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_millis(1500),
    Duration::from_secs(2),
];
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time before TCP is tried beside UDP.
const UDP_HEAD_START: Duration = Duration::from_secs(1);
/// Largest answer over UDP: the size that is not fragmented on the way (DNS flag day 2020).
pub(super) const MAX_PAYLOAD: u16 = 1232;

/// An answer that belongs to the question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Message,
    /// As received, for the signature.
    pub(super) bytes: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("no answer")]
    NoAnswer,
    #[error("{0}")]
    Io(String),
    #[error("the message cannot be encoded: {0}")]
    Encode(String),
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind().to_string())
    }
}

/// A question for `name`, with EDNS.
pub(super) fn question(name: &Name, record_type: RecordType, recursion: bool) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = recursion;
    message.add_query(Query::query(name.clone(), record_type));
    message
        .edns
        .get_or_insert_default()
        .set_max_payload(MAX_PAYLOAD)
        .set_version(0);
    message
}

/// Sends the message and waits for its answer. A server that refuses EDNS is asked again without (RFC 6891 §7).
pub(super) async fn exchange(server: SocketAddr, request: &Message) -> Result<Answer, WireError> {
    let answer = exchange_as_is(server, request).await?;
    let refused = matches!(
        answer.message.response_code,
        ResponseCode::FormErr | ResponseCode::NotImp
    );
    match without_edns(request).filter(|_| refused) {
        Some(plain) => exchange_as_is(server, &plain).await,
        None => Ok(answer),
    }
}

/// The same question without EDNS; none for what is no question.
fn without_edns(request: &Message) -> Option<Message> {
    (request.op_code == OpCode::Query && request.edns.is_some()).then(|| {
        let mut plain = request.clone();
        plain.edns = None;
        plain
    })
}

async fn exchange_as_is(server: SocketAddr, request: &Message) -> Result<Answer, WireError> {
    let bytes = request.to_vec().map_err(|error| WireError::Encode(error.to_string()))?;
    let tcp = async {
        let answer = timeout(TCP_TIMEOUT, over_tcp(server, request, &bytes)).await;
        answer.unwrap_or(Err(WireError::NoAnswer))
    };
    let udp = over_udp(server, request, &bytes);
    tokio::pin!(tcp, udp);
    if let Ok(answer) = timeout(UDP_HEAD_START, &mut udp).await {
        return match answer {
            Ok(answer) if !answer.message.truncation => Ok(answer),
            Ok(_) => tcp.await,
            Err(over_udp) => tcp.await.map_err(|over_tcp| both(over_udp, &over_tcp)),
        };
    }
    tokio::select! {
        answer = &mut udp => match answer {
            Ok(answer) if !answer.message.truncation => Ok(answer),
            Ok(_) => tcp.await,
            Err(over_udp) => tcp.await.map_err(|over_tcp| both(over_udp, &over_tcp)),
        },
        answer = &mut tcp => match answer {
            Ok(answer) => Ok(answer),
            Err(over_tcp) => match udp.await {
                Ok(answer) if !answer.message.truncation => Ok(answer),
                Ok(_) => Err(over_tcp),
                Err(over_udp) => Err(both(over_udp, &over_tcp)),
            },
        },
    }
}

/// The one reason, or both.
fn both(over_udp: WireError, over_tcp: &WireError) -> WireError {
    if over_udp == *over_tcp {
        over_udp
    } else {
        WireError::Io(format!("{over_udp} over UDP, {over_tcp} over TCP"))
    }
}

async fn over_udp(server: SocketAddr, request: &Message, bytes: &[u8]) -> Result<Answer, WireError> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let mut buffer = vec![0; usize::from(MAX_PAYLOAD).max(4096)];
    // Some firewalls drop questions with EDNS: the last datagram goes without.
    let plain = without_edns(request).and_then(|plain| plain.to_vec().ok());
    for (patience, bytes) in UDP_TIMEOUTS
        .into_iter()
        .zip([bytes, bytes, plain.as_deref().unwrap_or(bytes)])
    {
        socket.send(bytes).await?;
        let answer = timeout(patience, async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                let Some(received) = buffer.get(..length) else {
                    continue;
                };
                if let Some(answer) = belonging(request, received) {
                    return Ok(answer);
                }
            }
        })
        .await;
        if let Ok(answer) = answer {
            return answer;
        }
    }
    Err(WireError::NoAnswer)
}

async fn over_tcp(server: SocketAddr, request: &Message, bytes: &[u8]) -> Result<Answer, WireError> {
    let length = u16::try_from(bytes.len()).map_err(|_| WireError::Encode("too long".into()))?;
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut received = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut received).await?;
    belonging(request, &received).ok_or_else(|| WireError::Io("the answer is not to the question".into()))
}

/// The message when it answers the request. Whatever else arrives is as if it had not: an attacker who guesses
/// must guess all of id, port, and question. Servers may leave the question out of an error to an update, and out of
/// a refusal of EDNS, after which the question is asked again without.
fn belonging(request: &Message, received: &[u8]) -> Option<Answer> {
    let message = Message::from_vec(received).ok()?;
    let refuses_edns = matches!(message.response_code, ResponseCode::FormErr | ResponseCode::NotImp);
    let same_question = message.queries == request.queries
        || (message.queries.is_empty()
            && message.response_code != ResponseCode::NoError
            && (request.op_code == OpCode::Update || refuses_edns));
    let belongs = message.id == request.id
        && message.message_type == hickory_proto::op::MessageType::Response
        && message.op_code == request.op_code
        && same_question;
    belongs.then(|| Answer {
        message,
        bytes: received.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use hickory_proto::op::MessageType;
    use tokio::net::TcpListener;

    use super::*;

    fn ask() -> Message {
        question(&Name::from_ascii("a.test.").unwrap(), RecordType::TXT, false)
    }

    fn reply(request: &Message) -> Message {
        let mut message = request.clone();
        message.metadata.message_type = MessageType::Response;
        message
    }

    #[tokio::test]
    async fn answers_to_something_else_are_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let mut wrong_id = reply(&request);
            wrong_id.metadata.id ^= 1;
            let mut wrong_question = reply(&request);
            wrong_question.queries = question(&Name::from_ascii("b.test.").unwrap(), RecordType::TXT, false).queries;
            for bytes in [
                b"rubbish".to_vec(),
                wrong_id.to_vec().unwrap(),
                wrong_question.to_vec().unwrap(),
            ] {
                server.send_to(&bytes, from).await.unwrap();
            }
            let mut right = reply(&request);
            right.metadata.authoritative = true;
            server.send_to(&right.to_vec().unwrap(), from).await.unwrap();
        });
        let request = ask();
        let answer = exchange(address, &request).await.unwrap();
        serve.await.unwrap();
        assert_eq!((answer.message.id, answer.message.authoritative), (request.id, true));
    }

    #[tokio::test]
    async fn a_server_that_refuses_edns_is_asked_without() {
        for with_question in [true, false] {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = server.local_addr().unwrap();
            let serve = tokio::spawn(async move {
                let mut buffer = [0; 2048];
                for _ in 0..2 {
                    let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                    let request = Message::from_vec(&buffer[..length]).unwrap();
                    let mut answer = reply(&request);
                    if answer.edns.take().is_some() {
                        answer.metadata.response_code = ResponseCode::FormErr;
                        if !with_question {
                            answer.queries.clear();
                        }
                    } else {
                        answer.metadata.authoritative = true;
                    }
                    server.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            });
            let started = std::time::Instant::now();
            let answer = exchange(address, &ask()).await.unwrap();
            serve.await.unwrap();
            assert!(answer.message.authoritative && answer.message.response_code == ResponseCode::NoError);
            assert!(started.elapsed() < UDP_HEAD_START, "{:?}", started.elapsed());
        }
    }

    #[tokio::test]
    async fn a_server_behind_a_firewall_that_drops_edns_is_asked_without() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                let request = Message::from_vec(&buffer[..length]).unwrap();
                if request.edns.is_none() {
                    server.send_to(&reply(&request).to_vec().unwrap(), from).await.unwrap();
                    return;
                }
            }
        });
        let request = ask();
        assert_eq!(exchange(address, &request).await.unwrap().message.id, request.id);
        serve.await.unwrap();
    }

    #[tokio::test]
    async fn a_truncated_answer_is_fetched_over_tcp() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let serve = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let mut short = reply(&Message::from_vec(&buffer[..length]).unwrap());
            short.metadata.truncation = true;
            udp.send_to(&short.to_vec().unwrap(), from).await.unwrap();
            serve_tcp(tcp).await;
        });
        let answer = exchange(address, &ask()).await.unwrap();
        serve.await.unwrap();
        assert!(!answer.message.truncation);
    }

    /// Answers one request over TCP.
    async fn serve_tcp(tcp: TcpListener) {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut request = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut request).await.unwrap();
        let whole = reply(&Message::from_vec(&request).unwrap()).to_vec().unwrap();
        stream.write_u16(u16::try_from(whole.len()).unwrap()).await.unwrap();
        stream.write_all(&whole).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_silent_over_udp_is_asked_over_tcp() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        // Takes datagrams and drops them, as a firewall does.
        let _udp = UdpSocket::bind(address).await.unwrap();
        let serve = tokio::spawn(serve_tcp(tcp));
        let started = std::time::Instant::now();
        let request = ask();
        let answer = exchange(address, &request).await.unwrap();
        assert_eq!(answer.message.id, request.id);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        serve.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_without_udp_is_asked_over_tcp_at_once() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let serve = tokio::spawn(serve_tcp(tcp));
        let started = std::time::Instant::now();
        exchange(address, &ask()).await.unwrap();
        assert!(started.elapsed() < UDP_HEAD_START, "{:?}", started.elapsed());
        serve.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_silent_over_both_costs_six_seconds_at_most() {
        // Connections wait in the backlog; nothing is read.
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let _udp = UdpSocket::bind(address).await.unwrap();
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        assert_eq!(exchange(address, &ask()).await.unwrap_err(), WireError::NoAnswer);
        assert!(
            started.elapsed() <= UDP_HEAD_START + TCP_TIMEOUT + Duration::from_millis(100),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test]
    async fn a_closed_port_is_told_at_once() {
        let closed = {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.local_addr().unwrap()
        };
        assert_eq!(
            exchange(closed, &ask()).await.unwrap_err(),
            WireError::Io("connection refused".into())
        );
    }
}
