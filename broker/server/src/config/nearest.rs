//! What somebody may have meant who wrote a word that is not known: a key, a level, a
//! part.

/// The known word that is most like this one.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> &'a str {
    let likeness = |known: &str| {
        // Jaro-Winkler alone takes `lowd` for `info`: letters, whatever their order.
        let edits = strsim::normalized_damerau_levenshtein(word, known);
        strsim::jaro_winkler(word, known) + edits
    };
    known
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .expect("there are known words")
}
