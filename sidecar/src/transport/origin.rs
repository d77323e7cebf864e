//! Which pages may open a socket.

use std::net::IpAddr;

/// Whether a page of this origin may connect.
///
/// Without `Origin` there is no browser, and so nobody who could be tricked. Beside the list, a page that this server
/// itself delivered may connect, but only under a numeric address or localhost: a name could be anybody's, made to
/// point here.
pub(crate) fn is_allowed(origin: Option<&[u8]>, host: Option<&[u8]>, listed: &[String]) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    listed.iter().any(|it| it == "*" || it.as_bytes() == origin) || is_own_page(origin, host)
}

fn is_own_page(origin: &[u8], host: Option<&[u8]>) -> bool {
    let (Ok(origin), Some(Ok(host))) = (std::str::from_utf8(origin), host.map(std::str::from_utf8)) else {
        return false;
    };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority == Some(host) && is_unspoofable(host)
}

fn is_unspoofable(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    fn check(origin: &str, host: &str, listed: &[&str], expected: bool) {
        let listed: Vec<String> = listed.iter().map(|&it| it.to_owned()).collect();
        let allowed = is_allowed(Some(origin.as_bytes()), Some(host.as_bytes()), &listed);
        assert_eq!(allowed, expected, "{origin} at {host} with {listed:?}");
    }

    #[test]
    fn the_list_is_exact() {
        let listed = ["https://app.example.com"];
        check("https://app.example.com", "rt.example.com", &listed, true);
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.com",
            "https://evil-app.example.com",
            "https://APP.example.com",
            "https://app.example.com/",
            "null",
            "",
        ] {
            check(origin, "rt.example.com", &listed, false);
        }
        check("https://anything.example", "rt.example.com", &["*"], true);
    }

    #[test]
    fn pages_of_this_server_connect_by_number_only() {
        check("http://127.0.0.1:4000", "127.0.0.1:4000", &[], true);
        check("http://localhost:4000", "localhost:4000", &[], true);
        check("http://[::1]:4000", "[::1]:4000", &[], true);
        check("http://127.0.0.1:5000", "127.0.0.1:4000", &[], false);
        check("http://evil.example:4000", "evil.example:4000", &[], false);
        check("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", &[], false);
    }

    #[test]
    fn programs_have_no_origin() {
        assert!(is_allowed(None, None, &[]));
    }
}
