//! Whose policies end the session that they are judged in: found by halving. A lost session does not tell who it was, as
//! one that hangs does.

use std::time::Duration;

use super::Bench;
use crate::{
    model::Party,
    postgres::{
        Error,
        judge::{Judgement, Range, judge_once},
    },
};

/// Sessions that one search may cost: enough to find a few among many thousands. Whoever is left then is judged another
/// time.
const LOSSES_MAX: u32 = 64;

/// A party, by its number.
type Numbered = (i32, Party);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What the others see.
    pub(super) judgement: Judgement,
    /// Those for whom there can be no verdict: their policies end the session, or have no end.
    pub(super) guilty: Vec<i32>,
    /// Those who were not come to.
    pub(super) left: Vec<i32>,
}

/// Judges everybody apart from those whose policies end the session.
///
/// # Errors
///
/// When nobody can be judged now.
pub(super) async fn judge_apart(bench: &Bench, range: Range, parties: Vec<Numbered>) -> Result<Found, Error> {
    let mut search = Search::among(parties);
    let mut found = Found::default();
    let mut judgements: Option<Judgement> = None;
    while let Some(mut group) = search.next() {
        match judge(bench, range, &group).await {
            Ok(judgement) => {
                let joined = match judgements {
                    Some(others) => others.join(judgement),
                    None => Some(judgement),
                };
                judgements = Some(joined.ok_or(Error::Malformed)?);
            }
            Err(Error::Ended(_)) => found.guilty.extend(search.lost(group).map(|(number, _)| number)),
            Err(Error::Hanging(number)) => {
                found.guilty.push(number);
                group.retain(|(it, _)| *it != number);
                search.again(group);
            }
            Err(error) => return Err(error),
        }
    }
    found.judgement = judgements.unwrap_or_default();
    found.left = search.left().map(|(number, _)| number).collect();
    Ok(found)
}

/// One alone is asked twice: sessions end for other reasons too.
async fn judge(bench: &Bench, range: Range, group: &[Numbered]) -> Result<Judgement, Error> {
    let deadline: Duration = bench.deadline;
    match judge_once(&bench.database, range, group, deadline).await {
        Err(Error::Ended(_)) if group.len() == 1 => judge_once(&bench.database, range, group, deadline).await,
        judged => judged,
    }
}

/// Groups that are still to be asked, smallest last.
struct Search<T> {
    groups: Vec<Vec<T>>,
    losses: u32,
}

impl<T> Search<T> {
    /// All together are known to lose their session.
    fn among(all: Vec<T>) -> Self {
        let mut search = Self { groups: Vec::new(), losses: 0 };
        search.halve(all);
        search
    }

    /// Whom to ask next; `None` when nobody is left, or it has cost enough.
    fn next(&mut self) -> Option<Vec<T>> {
        if self.losses >= LOSSES_MAX { None } else { self.groups.pop() }
    }

    /// These are to be asked once more.
    fn again(&mut self, group: Vec<T>) {
        self.groups.extend(Some(group).filter(|group| !group.is_empty()));
    }

    /// The session of these was lost. Gives who it was, when there was only one.
    fn lost(&mut self, mut group: Vec<T>) -> Option<T> {
        self.losses += 1;
        if group.len() == 1 {
            return group.pop();
        }
        self.halve(group);
        None
    }

    fn halve(&mut self, mut group: Vec<T>) {
        let half = group.split_off(group.len() / 2);
        self.again(group);
        self.again(half);
    }

    /// Those who were not asked.
    fn left(self) -> impl Iterator<Item = T> {
        self.groups.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the guilty that were found, those judged and those left, and how many were asked.
    fn search(size: usize, is_guilty: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<usize>, Vec<usize>, usize) {
        let mut search = Search::among((0..size).collect());
        let (mut guilty, mut judged, mut asked) = (Vec::new(), Vec::new(), 0);
        while let Some(group) = search.next() {
            asked += 1;
            if group.iter().any(|it| is_guilty(*it)) {
                guilty.extend(search.lost(group));
            } else {
                judged.extend(group);
            }
        }
        (guilty, judged, search.left().collect(), asked)
    }

    #[test]
    fn one_among_many_is_found_with_two_questions_for_each_halving() {
        for size in [1, 2, 3, 50, 1_000] {
            for one in [0, size / 3, size - 1] {
                let (guilty, mut judged, left, asked) = search(size, |it| it == one);
                assert_eq!((guilty, left), (vec![one], vec![]));
                judged.sort_unstable();
                assert_eq!(judged, (0..size).filter(|it| *it != one).collect::<Vec<_>>());
                assert!(asked <= 2 * size.ilog2() as usize + 3, "{asked} questions about {size}");
            }
        }
    }

    #[test]
    fn several_are_found_and_the_others_judged_once() {
        let (mut guilty, judged, left, _) = search(500, |it| it % 200 == 7);
        guilty.sort_unstable();
        assert_eq!((guilty, judged.len(), left), (vec![7, 207, 407], 497, vec![]));
    }

    #[test]
    fn where_everybody_is_guilty_it_ends_and_says_who_is_left() {
        let (guilty, judged, left, asked) = search(1_000, |_| true);
        assert_eq!((judged.len(), asked), (0, LOSSES_MAX as usize));
        assert!(!guilty.is_empty());
        assert_eq!(guilty.len() + left.len(), 1_000);
    }

    #[test]
    fn who_is_asked_again_is_asked_without_the_one_who_hangs() {
        let mut search = Search::among(vec![1, 2, 3]);
        assert_eq!(search.next(), Some(vec![2, 3]));
        search.again(vec![3]);
        search.again(vec![]);
        assert_eq!((search.next(), search.next(), search.next()), (Some(vec![3]), Some(vec![1]), None));
    }
}
