//! Where a request may carry a key: in headers, or where a browser's WebSocket cannot set any, in a subprotocol.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use smallvec::SmallVec;

use crate::error::{Code, Error, Result};

/// The subprotocol that is chosen where it is offered.
const SUBPROTOCOL: &str = "thalweg";

/// What stands before a key in base64url, in an offer that is never chosen.
const KEY_SUBPROTOCOL: &str = "thalweg.key.";

/// Beside `Authorization: Bearer`. The first two are those of Huawei Cloud's gateways.
const HEADERS: [&str; 3] = ["x-auth-token", "x-apig-appcode", "x-api-key"];

/// The parameter of a query, where it is allowed (RFC 6750, section 2.3).
const PARAMETER: &str = "access_token";

/// More in one request are not looked at.
const MOST: usize = 8;

pub type Keys<'a> = SmallVec<[Cow<'a, [u8]>; 2]>;

/// What may be a key, in a request's headers and, if one is given, its query.
pub fn keys<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Keys<'a> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
    let named = HEADERS.into_iter().flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes);
    let plain = bearer.chain(named).map(|key| Cow::Borrowed(key.trim_ascii()));
    let offered = offers(headers).filter_map(|offer| offer.strip_prefix(KEY_SUBPROTOCOL));
    let decoded = offered.filter_map(|key| URL_SAFE_NO_PAD.decode(key).ok().map(Cow::Owned));
    let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let asked = parameters.filter(|(name, _)| name == PARAMETER).map(|(_, key)| match key {
        Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
        Cow::Owned(key) => Cow::Owned(key.into_bytes()),
    });
    plain.chain(decoded).chain(asked).filter(|key| !key.is_empty()).take(MOST).collect()
}

/// The key behind `Bearer`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
}

/// The subprotocol to choose. A browser that offers some ends the connection if none of them is chosen, and the
/// one with the key must not come back.
pub fn subprotocol(headers: &HeaderMap) -> Result<Option<HeaderValue>> {
    if offers(headers).any(|offer| offer == SUBPROTOCOL) {
        return Ok(Some(HeaderValue::from_static(SUBPROTOCOL)));
    }
    match offers(headers).any(|offer| offer.starts_with(KEY_SUBPROTOCOL)) {
        true => Err(Error::new(
            Code::InvalidUpgrade,
            "beside the subprotocol with the key, `thalweg` must be offered, which is the one that is chosen",
        )),
        false => Ok(None),
    }
}

fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use hyper::header::HeaderName;

    fn check(lines: &[&str], query: Option<&str>, expect: Expect) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(|line| line.split_once(": ").unwrap()) {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let keys: Vec<_> = keys(&headers, query).iter().map(|key| key.escape_ascii().to_string()).collect();
        let chosen = match subprotocol(&headers) {
            Ok(chosen) => chosen.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
            Err(error) => error.code.as_str().to_owned(),
        };
        expect.assert_eq(format!("{} / {chosen}", keys.join(" ")).trim());
    }

    #[test]
    fn keys_are_found() {
        check(&[], None, expect!["/"]);
        check(&["Authorization: Bearer abc"], None, expect!["abc /"]);
        check(&["Authorization: bEARER  abc "], None, expect!["abc /"]);
        check(
            &["Authorization: Basic abc", "Authorization: Bearer", "Authorization: Bearer "],
            None,
            expect!["/"],
        );
        check(
            &["X-Auth-Token: a", "X-Apig-AppCode: b", "X-Api-Key: c", "X-Api-Key: d"],
            None,
            expect!["a b c d /"],
        );
        check(&["Authorization: Bearer ä"], None, expect![[r#"\xc3\xa4 /"#]]);
        check(
            &["Sec-WebSocket-Protocol: thalweg, thalweg.key.w6Q_"],
            None,
            expect![[r#"\xc3\xa4? / thalweg"#]],
        );
        check(
            &["Sec-WebSocket-Protocol: chat, thalweg.key.YWJj", "Sec-WebSocket-Protocol: thalweg"],
            None,
            expect!["abc / thalweg"],
        );
        check(&["Sec-WebSocket-Protocol: thalweg.key.YWJj"], None, expect!["abc / invalid_upgrade"]);
        check(
            &["Sec-WebSocket-Protocol: thalweg, thalweg.key., thalweg.key.!, thalweg.key.YWJj="],
            None,
            expect!["/ thalweg"],
        );
        check(&["Sec-WebSocket-Protocol: chat"], None, expect!["/"]);
        check(&[], Some("model=m&access_token=a%20b&token=c"), expect!["a b /"]);
        check(&["X-Api-Key: a"; 20], None, expect!["a a a a a a a a /"]);
    }
}
