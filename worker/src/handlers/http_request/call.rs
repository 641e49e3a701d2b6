use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    LOCATION,
};
use reqwest::{Method, Request, StatusCode};
use url::Url;

/// What must not reach another server than the one it was meant for.
const CREDENTIALS: [HeaderName; 2] = [AUTHORIZATION, COOKIE];
/// What says something about a body that is no longer sent.
const OF_THE_BODY: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION];

/// A call to make.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

impl Call {
    pub(super) fn request(&self) -> Request {
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = self.body.clone().map(Into::into);
        request
    }

    /// Where an answer sends the call on to, if it does and says so in a way that can be read.
    pub(super) fn redirect(&self, status: StatusCode, headers: &HeaderMap) -> Option<Url> {
        let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = headers.get(LOCATION).filter(|_| redirects)?;
        self.url.join(std::str::from_utf8(location.as_bytes()).ok()?).ok()
    }

    /// Turns it into the call that a redirect asks for, as browsers do (RFC 9110, section 15.4).
    ///
    /// Credentials that were left out once stay out. reqwest, which could do all this, sends them again with the second
    /// redirect of a foreign server.
    pub(super) fn go_to(&mut self, target: Url, status: StatusCode) {
        if target.origin() != self.url.origin() {
            self.without(&CREDENTIALS);
        }
        let as_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if as_get {
            self.method = Method::GET;
            self.body = None;
            self.without(&OF_THE_BODY);
        }
        self.url = target;
    }

    /// How it is called in messages: without path and query, which may hold secrets.
    pub(super) fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{} {host}:{port}", self.method),
            None => format!("{} {host}", self.method),
        }
    }

    fn without(&mut self, names: &[HeaderName]) {
        for name in names {
            self.headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{ACCEPT, HeaderValue};

    fn call(method: Method) -> Call {
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, COOKIE, CONTENT_TYPE, ACCEPT] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        Call { method, url: "https://a.example/x/y?q=1".parse().unwrap(), headers, body: Some("body".into()) }
    }

    fn redirect(location: &'static [u8], status: StatusCode) -> Option<String> {
        let headers = [(LOCATION, HeaderValue::from_bytes(location).unwrap())].into_iter().collect();
        call(Method::GET).redirect(status, &headers).map(String::from)
    }

    #[test]
    fn a_location_may_be_relative() {
        let found = |location| redirect(location, StatusCode::FOUND);
        assert_eq!(found(b"z").as_deref(), Some("https://a.example/x/z"));
        assert_eq!(found(b"//b.example").as_deref(), Some("https://b.example/"));
        assert_eq!(found(b"http://0x7f.1:81/").as_deref(), Some("http://127.0.0.1:81/"));
        assert_eq!(found(b"http://["), None);
        assert_eq!(found(b"\xff"), None);
        for status in [StatusCode::OK, StatusCode::NOT_MODIFIED, StatusCode::MULTIPLE_CHOICES] {
            assert_eq!(redirect(b"z", status), None, "{status}");
        }
        assert_eq!(call(Method::GET).redirect(StatusCode::FOUND, &HeaderMap::new()), None);
    }

    #[test]
    fn method_and_body_go_on_as_the_status_has_it() {
        let after = |method, status| {
            let mut call = call(method);
            call.go_to("https://a.example/z".parse().unwrap(), StatusCode::from_u16(status).unwrap());
            (call.method, call.body.is_some(), call.headers.contains_key(CONTENT_TYPE))
        };
        for status in [301, 302, 303] {
            assert_eq!(after(Method::POST, status), (Method::GET, false, false), "{status}");
        }
        for status in [307, 308] {
            assert_eq!(after(Method::POST, status), (Method::POST, true, true), "{status}");
        }
        assert_eq!(after(Method::PUT, 302), (Method::PUT, true, true));
        assert_eq!(after(Method::PUT, 303), (Method::GET, false, false));
        assert_eq!(after(Method::HEAD, 303).0, Method::HEAD);
    }

    #[test]
    fn credentials_do_not_go_to_another_origin_nor_come_back() {
        let after = |targets: &[&str]| {
            let mut call = call(Method::GET);
            for target in targets {
                call.go_to(target.parse().unwrap(), StatusCode::FOUND);
            }
            assert!(call.headers.contains_key(ACCEPT));
            (call.headers.contains_key(AUTHORIZATION), call.headers.contains_key(COOKIE))
        };
        assert_eq!(after(&["https://a.example/z", "https://a.example:443/"]), (true, true));
        for elsewhere in ["https://b.example/", "http://a.example/", "https://a.example:444/"] {
            assert_eq!(after(&[elsewhere]), (false, false), "{elsewhere}");
            assert_eq!(after(&[elsewhere, elsewhere]), (false, false), "{elsewhere}");
            assert_eq!(after(&[elsewhere, "https://a.example/"]), (false, false), "{elsewhere}");
        }
    }

    #[test]
    fn a_name_tells_no_path_and_no_query() {
        let mut call = call(Method::GET);
        assert_eq!(call.name(), "GET a.example");
        call.url = "http://u:p@[::1]:81/".parse().unwrap();
        assert_eq!(call.name(), "GET [::1]:81");
    }
}
