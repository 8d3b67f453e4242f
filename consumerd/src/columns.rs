//! Results as columns, for eyes, grep and awk alike.

/// What stands where there is nothing to show: an empty cell would shift the columns behind it.
pub(crate) const NONE: &str = "-";
const GAP: &str = "  ";

/// The heading and a line for each row. All but the last column hold no blanks and are as wide as their widest cell.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let lines =
        || std::iter::once(heading.to_vec()).chain(rows.iter().map(|row| row.iter().map(String::as_str).collect()));
    let mut widths = vec![0; heading.len()];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// Text of a record or a server on one line, with nothing in it that a terminal would act on.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [
            vec!["1".to_owned(), "é".to_owned(), "a b".to_owned()],
            vec!["100".to_owned(), NONE.to_owned(), "c".to_owned()],
        ];
        assert_eq!(table(&["ID", "B", "REASON"], &rows), "ID   B  REASON\n1    é  a b\n100  -  c\n");
        assert_eq!(table(&["ID", "B"], &[]), "ID  B\n");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(one_line("a\u{1b}[2J\nb é"), "a\\u{1b}[2J\\nb é");
    }
}
