//! Comparing names of architectures: what a class is a class of, and which names look alike.

/// What a class is about, without its task and in lower case: `BertForMaskedLM` and `BertModel` are both `bert`.
pub(crate) fn stem(class: &str) -> String {
    const ENDINGS: [&str; 3] = ["Model", "LMHead", "Encoder"];
    let mut stem = class.split_once("For").map_or(class, |(stem, _)| stem);
    for ending in ENDINGS {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    stem.to_lowercase()
}

/// The candidates that look like one of `names`, nearest first, at most five.
pub(crate) fn near<'a>(names: &[&str], candidates: impl Iterator<Item = &'a str>) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut scored: Vec<(usize, &str)> = Vec::new();
    for candidate in candidates {
        let distances = names.iter().filter_map(|name| likeness(name, candidate));
        if let Some(distance) = distances.min() {
            scored.push((distance, candidate));
        }
    }
    scored.sort_by_key(|(distance, _)| *distance);
    scored.truncate(SHOWN);
    scored.into_iter().map(|(_, name)| name.to_string()).collect()
}

/// The edit distance of two names, ignoring case, where it is at most a third of the longer one's length.
fn likeness(a: &str, b: &str) -> Option<usize> {
    const LONGEST: usize = 100;
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let longer = a.chars().count().max(b.chars().count());
    if a.is_empty() || longer > LONGEST {
        return None;
    }
    Some(edit_distance(&a, &b)).filter(|distance| *distance <= longer / 3)
}

/// Insertions, deletions and replacements between two texts (Levenshtein 1966), by rows of the table.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_one_kind_have_one_stem() {
        for class in ["BertForMaskedLM", "BertModel", "BertLMHeadModel", "BertForQuestionAnswering"] {
            assert_eq!(stem(class), "bert");
        }
        assert_eq!(stem("T5EncoderModel"), "t5");
        assert_eq!(stem("LLaMAForCausalLM"), "llama");
        assert_eq!(stem("JinaBertForMaskedLM"), "jinabert");
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, distance) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("qwen2", "qwen2", 0), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(a, b), distance);
            assert_eq!(edit_distance(b, a), distance);
        }
    }

    #[test]
    fn near_names_come_nearest_first() {
        let known = ["llama", "mistral", "mixtral", "mamba", "gpt2"];
        assert_eq!(near(&["mistrall"], known.into_iter()), ["mistral", "mixtral"]);
        assert_eq!(near(&["", "Lama"], known.into_iter()), ["llama"]);
        assert!(near(&["completely-else"], known.into_iter()).is_empty());
    }
}
