//! The index against a naive matcher, and that nothing is left behind.

use super::*;
use crate::name::check_subject;

/// SplitMix64: enough randomness for a test, the same every time.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    /// A text over few letters, so that much of it matches.
    fn text(&mut self, letters: &[&str], len_max: usize) -> String {
        (0..=self.below(len_max)).map(|_| letters[self.below(letters.len())]).collect()
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

fn matches<T: Copy + Eq + Hash + Ord>(index: &PatternIndex<T>, subject: &str) -> Vec<T> {
    let mut found = Vec::new();
    index.for_each_match(subject, |&value| found.push(value));
    found.sort_unstable();
    found
}

#[test]
fn finds_what_a_naive_matcher_finds() {
    let (mut matched, mut removed) = (0, 0);
    for seed in 0..150 {
        let mut random = Seeded(seed);
        let mut index = PatternIndex::default();
        let mut naive: Vec<(Pattern, u32, Place)> = Vec::new();
        for step in 0..400 {
            if random.below(6) > 0 || naive.is_empty() {
                let letters = ["a", "b", ".", "*", "*", ".*", "_", ".>"];
                let Ok(pattern) = Pattern::parse(&random.text(&letters, 7)) else { continue };
                let place = index.insert(&pattern, step);
                assert_eq!(index.pattern(place), pattern.as_str(), "seed {seed}");
                naive.push((pattern, step, place));
            } else {
                let (_, value, place) = naive.swap_remove(random.below(naive.len()));
                assert!(index.remove(place, value), "seed {seed}");
                assert!(!index.remove(place, value), "seed {seed}");
                removed += 1;
            }
            for _ in 0..3 {
                let subject = random.text(&["a", "b", ".", "aa", "_"], 7);
                if check_subject(&subject).is_ok() {
                    let mut expected: Vec<_> = naive
                        .iter()
                        .filter(|(pattern, ..)| pattern.matches(&subject))
                        .map(|&(_, value, _)| value)
                        .collect();
                    expected.sort_unstable();
                    matched += expected.len();
                    assert_eq!(matches(&index, &subject), expected, "seed {seed}: {subject}");
                }
            }
        }
        assert_eq!(index.len(), naive.len());
        for (_, value, place) in naive {
            assert!(index.remove(place, value), "seed {seed}");
        }
        assert_eq!((index.nodes(), index.len()), (0, 0), "seed {seed}: garbage is left");
    }
    assert!(matched > 10_000 && removed > 5_000, "the test lost its point: {matched} {removed}");
}

#[test]
fn a_glob_whose_piece_occurs_twice_is_found_once() {
    let mut index = PatternIndex::default();
    index.insert(&pattern("*ab*"), 1);
    index.insert(&pattern("x*ab*y"), 2);
    assert_eq!(matches(&index, "ababab"), [1]);
    assert_eq!(matches(&index, "xababy"), [1, 2]);
    assert_eq!(matches(&index, "xay"), []);
}

#[test]
fn wildcards_at_the_start_do_not_overhear_inboxes() {
    let mut index = PatternIndex::default();
    for (value, text) in [">", "*.>", "*.a", "*x.a", "_inbox.>", "_inbox.*"].iter().enumerate() {
        index.insert(&pattern(text), value);
    }
    assert_eq!(matches(&index, "_inbox.a"), [4, 5]);
    assert_eq!(matches(&index, "_inbox"), []);
    assert_eq!(matches(&index, "x.a"), [0, 1, 2, 3]);
}

#[test]
fn many_values_under_one_pattern_come_and_go() {
    for text in ["news", "news.*"] {
        let mut index = PatternIndex::default();
        let places: Vec<_> = (0..1_000).map(|value| index.insert(&pattern(text), value)).collect();
        let again = index.insert(&pattern(text), 7);
        assert_eq!((again, index.len()), (places[7], 1_000));
        for value in (0..1_000).step_by(2) {
            assert!(index.remove(places[value], value));
        }
        let subject = text.replace('*', "eu");
        let expected: Vec<_> = (1..1_000).step_by(2).collect();
        assert_eq!(matches(&index, &subject), expected);
        for value in expected {
            assert!(index.remove(places[value], value));
        }
        assert_eq!(index.nodes(), 0);
    }
}

/// A hundred thousand globs at one node: were they tried one by one, this would
/// take minutes.
#[test]
fn a_match_does_not_look_at_every_glob() {
    let mut index = PatternIndex::default();
    for value in 0..100_000 {
        index.insert(&pattern(&format!("*-{value:05}-*")), value);
    }
    for value in 0..100_000 {
        assert_eq!(matches(&index, &format!("eu-{value:05}-x")), [value]);
    }
}

/// What the globs cost a match is bounded: shapes that are there cost nothing more, new ones
/// are refused when there are too many, and what goes gives its room back.
#[test]
fn only_so_many_shapes_of_globs_are_taken() {
    let mut index = PatternIndex::default();
    let mut places = Vec::new();
    // Below each first token the same shapes count anew.
    for first in 0.. {
        let wide = |length: usize| pattern(&format!("t{first}.{}*{}*", "a".repeat(length), "b"));
        let some: Vec<_> = (1..=64).map(wide).collect();
        if !index.has_room(&some) {
            break;
        }
        places.extend(some.iter().map(|pattern| index.insert(pattern, first)));
    }
    let weight = places.len() as u64 * crate::limits::WIDE_GLOB_WEIGHT;
    assert_eq!(weight, GLOB_WEIGHT_MAX, "the room is used up");
    for (text, has_room) in
        [("t0.ccc*d*", true), ("t0.plain", true), ("t0.*", true), ("t0.>", true), ("*x.>", false)]
    {
        assert_eq!(index.has_room(&[pattern(text)]), has_room, "{text}");
    }
    assert!(index.remove(places[0], 0));
    assert!(index.has_room(&[pattern("*x.>")]));
    assert!(!index.has_room(&[pattern("n.*x*.*y")]), "one more than its place");
    places.drain(..).skip(1).enumerate().for_each(|(at, place)| {
        assert!(index.remove(place, (at + 1) / 64));
    });
    assert_eq!((index.nodes(), index.trie.weight()), (0, 0));
}
