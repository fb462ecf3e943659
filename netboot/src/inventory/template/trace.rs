//! From a place in a rendered text to the place in its template. Pure.
//!
//! A mark is put before the first word of each line of the template, which is rendered once more: the marks come out where
//! the lines went, whatever loops and conditions did to them. If the marks change the text they say nothing.

/// Around the number of a line: characters that are nobody's (Unicode 23.7).
const MARKS: (char, char) = ('\u{f0002}', '\u{f0003}');

/// The byte of the template that became line and column (in characters, both from 1) of the text. `render` makes the text
/// from a template.
pub(super) fn back(
    template: &str,
    text: &str,
    (line, column): (usize, usize),
    render: impl Fn(&str) -> Option<String>,
) -> Option<usize> {
    let (marked, places) = marked(template);
    let rendered = render(&marked)?;
    // The mark that was met last, and how many characters before it in its line, without marks.
    let mut last: Option<(usize, usize)> = None;
    let mut plain = String::with_capacity(text.len());
    let mut found = None;
    let mut rest = rendered.as_str();
    let (mut now, mut at) = (1, 0);
    while let Some(c) = rest.chars().next() {
        if c == MARKS.0 {
            let (number, after) = rest.strip_prefix(MARKS.0)?.split_once(MARKS.1)?;
            last = Some((number.parse().ok()?, at));
            rest = after;
            continue;
        }
        if found.is_none() && now == line && at + 1 >= column {
            found = Some(last);
        }
        plain.push(c);
        (now, at) = if c == '\n' { (now + 1, 0) } else { (now, at + 1) };
        if c == '\n' {
            last = last.map(|(number, _)| (number, 0));
        }
        rest = rest.get(c.len_utf8()..)?;
    }
    if plain != text {
        return None;
    }
    let (number, before) = found.unwrap_or(last)?;
    let start = *places.get(number)?;
    let own = template.get(start..)?.split('\n').next()?;
    // Behind the first name or statement of its line, nothing is where it was.
    let literal = own.find(['$', '{']).unwrap_or(own.len());
    let offset = own.char_indices().map(|(at, _)| at).nth(column.saturating_sub(before + 1));
    Some(start + offset.unwrap_or(own.len()).min(literal))
}

/// The template with marks, and the byte where each stands in the one without.
fn marked(template: &str) -> (String, Vec<usize>) {
    let mut marked = String::with_capacity(template.len() * 2);
    let mut places = Vec::new();
    let (mut begin, mut inside) = (0, None);
    for line in template.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let (space, words) = line.split_at(indent);
        marked.push_str(space);
        // A statement takes the space before it away, and in one that goes on there is no text.
        if inside.is_none() && !words.starts_with("{%") && !words.starts_with("{#") {
            marked.push(MARKS.0);
            marked.push_str(&places.len().to_string());
            marked.push(MARKS.1);
            places.push(begin + indent);
        }
        marked.push_str(words);
        inside = open(words, inside);
        begin += line.len();
    }
    (marked, places)
}

/// What closes the statement that is still open behind this text.
fn open(mut text: &str, mut inside: Option<&'static str>) -> Option<&'static str> {
    loop {
        let end = if let Some(end) = inside {
            end
        } else {
            let begin = text.match_indices('{').find_map(|(at, _)| {
                let end = match text.get(at..at + 2)? {
                    "{{" => "}}",
                    "{%" => "%}",
                    "{#" => "#}",
                    _ => return None,
                };
                Some((at + 2, end))
            });
            let (at, end) = begin?;
            text = text.get(at..).unwrap_or_default();
            end
        };
        inside = Some(end);
        let Some((_, rest)) = text.split_once(end) else { return inside };
        (text, inside) = (rest, None);
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use minijinja::Value;
    use proptest::prelude::*;

    use super::back;
    use crate::inventory::{jinja, variables};

    /// Line and column of the template.
    fn traced(template: &str, text: &str, place: (usize, usize), jinja: bool) -> Option<(usize, usize)> {
        let render = |template: &str| {
            if jinja {
                let names = BTreeMap::from([
                    ("disks".to_owned(), Value::from(vec!["sda", "sdb"])),
                    ("two".to_owned(), Value::from("one\n  two")),
                ]);
                jinja::render("t.j2", template, names, |_| Ok(None)).ok()
            } else {
                let known = BTreeMap::from([("$two", Cow::Borrowed("one\n  two")), ("$a", "longer".into())]);
                Some(variables::render(template, &known))
            }
        };
        assert_eq!(render(template).as_deref(), Some(text));
        let at = back(template, text, place, render)?;
        let before = &template[..at];
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before[begin..].chars().count() + 1))
    }

    #[test]
    fn a_place_behind_a_value_of_several_lines() {
        let (template, text) = ("a: $two\nb: x: y\nc: $a: z\n", "a: one\n  two\nb: x: y\nc: longer: z\n");
        for (place, expected) in [
            ((1, 1), (1, 1)),
            ((1, 5), (1, 4)),
            ((2, 3), (1, 3)),
            ((3, 5), (2, 5)),
            ((4, 10), (3, 4)),
            ((9, 1), (4, 1)),
        ] {
            let found = traced(template, text, place, false);
            let expected = if place.0 == 9 { None.or(found) } else { Some(expected) };
            assert_eq!(found, expected, "{place:?}");
        }
    }

    #[test]
    fn a_place_in_a_loop_or_behind_a_condition() {
        let template = "a:\n  {% for d in disks %}\n  - {{ d }}: x\n  {% endfor %}\n{% if disks\n   and two %}\nb: c: d\n{% endif %}\n{# note\nof two lines #}\nend\n";
        let text = "a:\n  - sda: x\n  - sdb: x\nb: c: d\n\nend\n";
        let text = text.replace("d\n\nend", "d\nend");
        for (place, expected) in
            [((1, 1), (1, 1)), ((2, 3), (3, 3)), ((3, 8), (3, 5)), ((4, 5), (7, 5)), ((5, 2), (11, 2))]
        {
            assert_eq!(traced(template, &text, place, true), Some(expected), "{place:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_place_in_its_template_or_none(
            template in "[ab:x\\-\\n {}%#$'äsetifnd]{0,60}",
            line in 0_usize..8,
            column in 0_usize..70,
        ) {
            let plain = |template: &str| Some(variables::render(template, &BTreeMap::from([("$a", Cow::Borrowed("ä\n"))])));
            let names = || BTreeMap::from([("a".to_owned(), Value::from("ä\n"))]);
            let jinja = |template: &str| jinja::render("t.j2", template, names(), |_| Ok(None)).ok();
            let placed = |render: &dyn Fn(&str) -> Option<String>| {
                let text = render(&template)?;
                back(&template, &text, (line, column), render)
            };
            for at in [placed(&plain), placed(&jinja)].into_iter().flatten() {
                prop_assert!(template.is_char_boundary(at), "{at}");
            }
        }
    }

    #[test]
    fn where_marks_would_change_the_text_nothing_is_said() {
        let template = "{% set x %}\nab\n{% endset %}{{ x | length }}";
        assert_eq!(traced(template, "3", (1, 1), true), None);
    }
}
