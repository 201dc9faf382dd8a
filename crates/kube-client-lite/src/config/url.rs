use ureq::http::Uri;

/// Checks a server's URL and takes the slashes off its end.
///
/// # Errors
/// What completes a sentence about the URL, without quoting it: somebody may have put a password
/// there.
pub fn server(url: &str) -> Result<String, &'static str> {
    let parsed: Uri = url
        .parse()
        .map_err(|_| "is not a URL; expected https://HOST[:PORT][/PREFIX]")?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err("begins with neither https:// nor http://");
    }
    if parsed
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("has a user in it; put credentials in the user entry");
    }
    if parsed.host().is_none_or(str::is_empty) {
        return Err("has no host");
    }
    if parsed.query().is_some() || url.contains('#') {
        return Err("has a query or fragment; expected https://HOST[:PORT][/PREFIX]");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Checks a proxy's URL. SOCKS would be another dependency, for the few who cannot have HTTP.
///
/// # Errors
/// What completes a sentence about the URL, without quoting it.
pub fn check_proxy(url: &str) -> Result<(), &'static str> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err("begins with neither http:// nor https://; other proxies are not supported");
    }
    ureq::Proxy::new(url)
        .map(drop)
        .map_err(|_| "is not a URL; expected http://[USER:PASSWORD@]HOST[:PORT]")
}

/// Puts an IPv6 address in brackets.
pub(super) fn host(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (url, expected) in [
            ("https://h:6443", Ok("https://h:6443")),
            (
                "https://h/k8s/clusters/c-1/",
                Ok("https://h/k8s/clusters/c-1"),
            ),
            ("http://[::1]:8001/", Ok("http://[::1]:8001")),
            ("h:6443", Err("begins with neither https:// nor http://")),
            (
                "unix:///run/api.sock",
                Err("is not a URL; expected https://HOST[:PORT][/PREFIX]"),
            ),
            (
                "https://u:secret@h",
                Err("has a user in it; put credentials in the user entry"),
            ),
            (
                "https://h?x",
                Err("has a query or fragment; expected https://HOST[:PORT][/PREFIX]"),
            ),
            (
                "https://h x",
                Err("is not a URL; expected https://HOST[:PORT][/PREFIX]"),
            ),
            ("https://:443", Err("has no host")),
        ] {
            assert_eq!(server(url), expected.map(str::to_owned), "{url}");
        }
    }

    #[test]
    fn proxies() {
        assert_eq!(check_proxy("http://u:p@proxy:3128"), Ok(()));
        assert!(check_proxy("socks5://proxy").is_err());
        assert!(check_proxy("http://").is_err());
    }

    #[test]
    fn hosts() {
        assert_eq!(
            [host("fd00::1"), host("[::1]"), host("10.0.0.1")],
            ["[fd00::1]", "[::1]", "10.0.0.1"]
        );
    }
}
