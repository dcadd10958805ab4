//! What may be a subject, a pattern, a name; what matches what.

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

#[test]
fn subjects() {
    for good in ["a", "orders.eu.created", "_inbox.x", "größe.ü", "a/b", "A-1._"] {
        assert_eq!(check_subject(good), Ok(()), "{good}");
    }
    let long = "x".repeat(256);
    let deep = ["a"; TOKENS_MAX + 1].join(".");
    for (bad, why) in [
        ("", NameError::Empty),
        (&long, NameError::TooLong { len: 256, max: 255 }),
        ("a..b", NameError::EmptyToken),
        (".a", NameError::EmptyToken),
        ("a.", NameError::EmptyToken),
        (&deep, NameError::TooDeep),
        ("a b", NameError::Character(' ')),
        ("a\u{0}", NameError::Character('\0')),
        ("a\u{a0}", NameError::Character('\u{a0}')),
        ("a.*", NameError::Wildcard('*')),
        ("a.>", NameError::Wildcard('>')),
    ] {
        assert_eq!(check_subject(bad), Err(why), "{bad}");
    }
    assert!(is_reserved("_weir.stats") && !is_reserved("_inbox.x") && !is_reserved("a._b"));
}

#[test]
fn patterns() {
    for good in ["a", "*", ">", "a.>", "*.*", "mail-*", "*-eu", "a*b*c", "orders.*.created"] {
        assert_eq!(pattern(good).as_str(), good);
    }
    for (bad, why) in [
        ("a.>.b", NameError::RestNotLast),
        ("a>", NameError::RestNotLast),
        ("a.b>", NameError::RestNotLast),
        (">.>", NameError::RestNotLast),
        ("a**", NameError::DoubleStar),
        ("*a*b*", NameError::TooManyStars),
        ("a..*", NameError::EmptyToken),
    ] {
        assert_eq!(Pattern::parse(bad), Err(why), "{bad}");
    }
    assert!(pattern("a.b").is_literal() && !pattern("a.b*").is_literal());
}

#[test]
fn matching() {
    for (text, subjects) in [
        ("a.b", &["a.b"][..]),
        ("a.*", &["a.b", "a.c"]),
        ("*", &["a", "mail-x", "mail-", "x-mid-y"]),
        (">", &["a", "a.b", "a.c", "a.b.c", "mail-x", "mail-", "x-mid-y"]),
        ("a.>", &["a.b", "a.c", "a.b.c"]),
        ("mail-*", &["mail-x", "mail-"]),
        ("*-*", &["mail-x", "mail-", "x-mid-y"]),
        ("*mid*", &["x-mid-y"]),
        ("x*y", &["x-mid-y"]),
        ("_inbox.*", &["_inbox.a"]),
        ("_*.a", &["_inbox.a"]),
        ("*.a", &[]),
    ] {
        let all = ["a", "a.b", "a.c", "a.b.c", "mail-x", "mail-", "x-mid-y", "_inbox.a", "_inbox"];
        let matched: Vec<_> = all.into_iter().filter(|s| pattern(text).matches(s)).collect();
        assert_eq!(matched, subjects, "{text}");
    }
}

#[test]
fn names() {
    for good in ["orders", "orders/dead", "a.b-c_d/0", "0"] {
        assert_eq!(Name::parse(good).expect("a name").as_str(), good);
    }
    for (bad, why) in [
        ("", NameError::Empty),
        ("Orders", NameError::NameCharacter('O')),
        ("a b", NameError::NameCharacter(' ')),
        ("_a", NameError::Reserved),
        ("a/", NameError::NameEdge),
        ("a//b", NameError::NameEdge),
        ("a/_b", NameError::NameEdge),
        ("../a", NameError::NameEdge),
        ("a..b", NameError::EmptyToken),
    ] {
        assert_eq!(Name::parse(bad), Err(why), "{bad}");
    }
    assert_eq!(Name::parse_group("a/b"), Err(NameError::GroupSlash));
    assert_eq!((shard_part("orders/dead"), shard_part("orders")), ("orders", "orders"));
}

#[test]
fn scopes() {
    for (glob, name, matches) in [
        ("orders", "orders", true),
        ("orders", "orders/dead", false),
        ("*", "orders", true),
        ("*", "orders/dead", false),
        ("*/*", "orders/dead", true),
        ("mail-*", "mail-eu", true),
        ("flights/*", "flights/audit", true),
        ("flights/*", "flights/a/b", false),
        ("*/a*c/d", "x/abc/d", true),
        ("*/a*c/d", "x/ab/c/d", false),
        ("a*a*a", "aaa", true),
        ("a*a*a", "aa", false),
    ] {
        assert_eq!(scope_matches(glob, name), matches, "{glob} {name}");
        assert_eq!(check_scope(glob), Ok(()));
    }
    assert_eq!(check_scope("Mail"), Err(NameError::NameCharacter('M')));
}
