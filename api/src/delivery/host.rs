use url::Url;

/// Which host a URL that a job has named is at: scheme, name and port. What goes to one host shares its room, however many
/// URLs there are: many jobs name one of their own each.
pub fn host(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.into(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_one_host_differ_in_what_comes_after_it() {
        assert_eq!(host("https://a.example/jobs/1?key=2"), "https://a.example");
        assert_eq!(host("https://a.example:443/"), "https://a.example");
        assert_eq!(host("http://[::1]:8080/x"), "http://[::1]:8080");
        assert_ne!(host("https://a.example:444/"), host("https://a.example/"));
    }
}
