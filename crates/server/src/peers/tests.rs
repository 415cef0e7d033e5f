use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn peers() -> HttpPeers {
    HttpPeers::new(Arc::new(Seals::new(&[1; 32]))).expect("a client")
}

/// A server that answers the first request with these bytes and hangs up.
async fn says(answer: &'static str) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody asks");
        let mut asked = vec![0; 64 << 10];
        let n_read = stream.read(&mut asked).await.expect("a request");
        let asked = String::from_utf8_lossy(&asked[..n_read]).into_owned();
        assert!(asked.contains("x-everstate-seal: "), "{asked}");
        stream.write_all(answer.as_bytes()).await.expect("it listens");
    });
    Peer { name: "n1".to_owned(), address, epoch: 4 }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";

/// What a tail tells, in words, until it is over.
async fn told(lines: &'static str) -> Vec<String> {
    let answer = Box::leak(format!("{HEAD}{lines}").into_boxed_str());
    let ask =
        TailAsk { session: SessionId(1), after: 0, attends: None, process: 0, kept_only: false };
    let tail = peers().tail(&says(answer).await, ask).await.expect("it answers");
    let words = tail.map(|it| match it {
        Ok(told) => format!("row {:?}", told.seq()),
        Err(down) => down.0,
    });
    words.collect().await
}

#[tokio::test]
async fn a_tail_is_over_only_when_it_says_so() {
    let frame = r#"{"told":{"frame":{"seq":7,"frame":{"attempt":{"turn":1,"step":1,"attempt":1},"deltas":[]}}}}"#;
    let lines: &str = Box::leak(format!("\n{frame}\n\n\"over\"\n{frame}\n").into_boxed_str());
    assert_eq!(told(lines).await, ["row Some(7)"]);
    let broken: &str = Box::leak(format!("{frame}\n{}", &frame[..20]).into_boxed_str());
    let broken = told(broken).await;
    assert_eq!(broken.len(), 2);
    assert!(broken[1].ends_with("its tail broke off"), "{broken:?}");
    assert_eq!(told("{\"down\":\"not mine\"}\n\"over\"\n").await, ["not mine"]);
    let nonsense = told("<html>\n").await;
    assert!(nonsense[0].starts_with("node n1 at http://127.0.0.1:"), "{nonsense:?}");
}

#[tokio::test]
async fn who_is_not_one_of_us_is_nobody() {
    let stranger =
        says("HTTP/1.1 200 OK\r\ncontent-length: 23\r\nconnection: close\r\n\r\n{\"name\":\"n1\",\"epoch\":4}").await;
    assert_eq!(peers().hello(&stranger.address).await, Ok(None));
    let refused = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", refused.local_addr().expect("an address"));
    drop(refused);
    assert_eq!(peers().hello(&address).await, Ok(None), "nobody listens there");
}

#[tokio::test]
async fn an_answer_that_is_an_error_is_one() {
    let peer = says("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let down = peers().delete(&peer, SessionId(1)).await.expect_err("not found");
    assert!(down.0.contains("404"), "{down}");
    let peer = says("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"Ok\": null }").await;
    assert_eq!(peers().delete(&peer, SessionId(1)).await, Ok(()));
}
