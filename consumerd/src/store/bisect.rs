//! Finding the rows that PostgreSQL refuses.

use std::ops::Range;

use super::fault::{Class, PgFault};

/// A row that was refused, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) index: usize,
    pub(crate) fault: PgFault,
}

/// Halves a range until each part is stored or is a single refused row.
///
/// `store` tries a range, all or nothing. The order of the tries is that of the rows.
///
/// # Errors
/// The first fault that is not a row's own.
pub(super) fn bisect(
    rows: Range<usize>,
    store: &mut impl FnMut(Range<usize>) -> Result<(), PgFault>,
) -> Result<Vec<Refused>, PgFault> {
    let mut refused = Vec::new();
    let mut open = vec![rows];
    while let Some(part) = open.pop() {
        if part.is_empty() {
            continue;
        }
        match store(part.clone()) {
            Ok(()) => {}
            Err(fault) if fault.class() != Class::Row => return Err(fault),
            Err(fault) if part.len() == 1 => refused.push(Refused { index: part.start, fault }),
            Err(_) => {
                let middle = part.start + part.len() / 2;
                open.push(middle..part.end);
                open.push(part.start..middle);
            }
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str) -> PgFault {
        PgFault { code: Some(code.to_owned()), constraint: true, closed: false, message: String::new() }
    }

    /// Bisects with the given rows bad; returns what was refused, and how many tries it took.
    fn check(rows: usize, bad: &[usize]) -> usize {
        let mut tries = 0;
        let mut stored = Vec::new();
        let refused = bisect(0..rows, &mut |part| {
            tries += 1;
            if bad.iter().any(|row| part.contains(row)) {
                return Err(fault("22003"));
            }
            stored.extend(part);
            Ok(())
        });
        let refused: Vec<_> = refused.expect("only row faults").iter().map(|refused| refused.index).collect();
        assert_eq!(refused, bad);
        assert_eq!(stored, (0..rows).filter(|row| !bad.contains(row)).collect::<Vec<_>>());
        tries
    }

    #[test]
    fn finds_exactly_the_bad_rows() {
        check(0, &[]);
        check(1, &[]);
        check(1, &[0]);
        check(7, &[6]);
        check(8, &[0, 7]);
        check(5, &[0, 1, 2, 3, 4]);
    }

    #[test]
    fn one_bad_row_takes_a_logarithm_of_tries() {
        assert_eq!(check(2000, &[]), 1);
        assert!(check(2000, &[1234]) <= 2 * 11 + 1);
    }

    #[test]
    fn any_other_fault_ends_it() {
        let result = bisect(0..8, &mut |part| Err(fault(if part.len() > 2 { "22003" } else { "57P01" })));
        assert_eq!(result, Err(fault("57P01")));
    }
}
