//! The names of a Job's pods.

/// The longest prefix of a generated name (names.MaxGeneratedNameLength): 63 without the suffix.
const LONGEST_PREFIX: usize = 58;

/// What random suffixes are made of: no vowels, and nothing that looks like something else.
pub const RANDOM_CHARS: [u8; 27] = *b"bcdfghjklmnpqrstvwxz2456789";

/// What the name of a new pod begins with: `<job>-`, or `<job>-<index>-` if the Job is indexed, cut
/// so that five more characters fit (podGenerateNameWithIndex).
pub fn generate_name(job: &str, index: Option<u32>) -> String {
    let Some(index) = index else {
        return cut(&format!("{job}-"), LONGEST_PREFIX).to_owned();
    };
    let suffix = format!("-{index}-");
    format!("{}{suffix}", cut(job, LONGEST_PREFIX - suffix.len()))
}

/// `spec.hostname` of a pod of an indexed Job.
pub fn hostname(job: &str, index: u32) -> String {
    format!("{job}-{index}")
}

/// Five characters for the end of a generated name, from a random number of the caller.
pub fn random_suffix(random: u64) -> String {
    let mut left = random;
    let mut next = || {
        let (rest, digit) = (left / 27, left % 27);
        left = rest;
        char::from(RANDOM_CHARS[usize::try_from(digit).unwrap_or(0)])
    };
    (0..5).map(|_| next()).collect()
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
