//! `dead-letters list`: a line for each.

use coinflow_common::daemon::Exit;

use crate::columns::{NONE, one_line, table};
use crate::command::{Outcome, database, print, remark, told};
use crate::config::Config;
use crate::store::Schema;
use crate::store::letters::{Letter, list};

const HEADING: [&str; 7] = ["ID", "TIME", "TOPIC", "PARTITION", "OFFSET", "SQLSTATE", "REASON"];
/// With those that a retry has stored.
const HEADING_ALL: [&str; 8] = ["ID", "TIME", "TOPIC", "PARTITION", "OFFSET", "RETRIED_AT", "SQLSTATE", "REASON"];

pub(super) fn run(config: &Config, with_retried: bool, limit: i64) -> Outcome {
    let mut client = database(&config.postgres)?;
    let schema = Schema::new(&config.postgres.schema);
    // One more than asked for tells whether there are more.
    let mut letters = list(&mut client, &schema, with_retried, limit.saturating_add(1)).map_err(told)?;
    if letters.len() as i64 > limit {
        letters.remove(0);
        remark(&format!("only the newest {limit} are listed; --limit takes more"));
    }
    let rows: Vec<Vec<String>> = letters.iter().map(|letter| line(letter, with_retried)).collect();
    let heading: &[&str] = if with_retried { &HEADING_ALL } else { &HEADING };
    print(&table(heading, &rows));
    Ok(Exit::Done)
}

fn line(letter: &Letter, with_retried: bool) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
    let mut line = vec![
        letter.id.to_string(),
        letter.first_seen_at.clone(),
        letter.partition.topic.to_string(),
        letter.partition.number.to_string(),
        letter.offset.to_string(),
    ];
    if with_retried {
        line.push(or_none(&letter.retried_at));
    }
    line.extend([or_none(&letter.sqlstate), one_line(&letter.reason)]);
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::show::tests::letter;

    #[test]
    fn a_line_has_as_many_columns_as_its_heading() {
        let letter = Letter { reason: "not\nJSON".to_owned(), ..letter() };
        assert_eq!(line(&letter, false).join(" "), "12 2026-11-23T10:00:01.000Z t 3 17 - not\\nJSON");
        assert_eq!(line(&letter, false).len(), HEADING.len());
        assert_eq!(line(&letter, true).len(), HEADING_ALL.len());
        assert_eq!(line(&letter, true)[5], "-");
    }
}
