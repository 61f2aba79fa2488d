//! Compares URLs of ACME servers: what belongs to an order, an account or a certificate of one is never sent to another.

/// Whether two URLs of directories name the same server, however they are written.
pub fn is_same_server(one: Option<&str>, other: Option<&str>) -> bool {
    one.map(plain) == other.map(plain)
}

/// Whether a URL is at the host of a directory.
pub fn is_same_host(url: &str, directory: &str) -> bool {
    plain(url).0 == plain(directory).0
}

/// Returns scheme and host, and the path.
fn plain(url: &str) -> (String, String) {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let origin = format!("{}://{host}", scheme.to_ascii_lowercase());
    (origin, path.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_however_its_url_is_written() {
        let url = "https://ca.test/directory";
        for (other, same) in [
            ("https://ca.test/directory", true),
            ("HTTPS://CA.test:443/directory/", true),
            (" https://ca.test/directory", true),
            ("https://ca.test/Directory", false),
            ("https://ca.test:8443/directory", false),
            ("https://staging.ca.test/directory", false),
            ("https://ca.test", false),
        ] {
            assert_eq!(is_same_server(Some(other), Some(url)), same, "{other}");
        }
        assert!(!is_same_server(None, Some(url)));
        assert!(is_same_host("https://ca.test:443/order/1", url));
        assert!(!is_same_host("https://ca.test.evil.test/order/1", url));
    }
}
