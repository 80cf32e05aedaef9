"""The prior table is data that people review; here is what a reviewer cannot see."""

import pytest

from autofocus.models import catalog
from autofocus.models.base import CLASSIFIER, DETECTOR, SEGMENTER, is_permissive
from autofocus.study.automode.priors import priors_of

KINDS = (CLASSIFIER, DETECTOR, SEGMENTER)


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_can_be_trained_without_anybodys_consent(kind: str) -> None:
    priors = priors_of(kind)
    for row in priors.models:
        spec = catalog.resolve(row.name)
        assert (spec.name, spec.kind) == (row.name, kind), "rows have full names"
        assert is_permissive(spec.licence)
        assert row.gmacs > 0
    assert len({(row.name, row.side) for row in priors.models}) == len(priors.models)


@pytest.mark.parametrize("kind", KINDS)
def test_what_needs_no_download_is_always_there(kind: str) -> None:
    default = catalog.resolve(catalog.default_model(kind)).name
    assert priors_of(kind).gmacs_of(default) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_are_an_order(kind: str) -> None:
    priors = priors_of(kind)
    for num_images in (10, 5_000, 50_000):
        ranked = priors.ranked(num_images)
        assert sorted(ranked, key=priors.models.index) == list(priors.models)
    for column in range(3):
        ranks = [row.rank[column] for row in priors.models]
        assert len(set(ranks)) == len(ranks), "no two rows are level"


def test_the_number_of_images_chooses_the_column() -> None:
    priors = priors_of(CLASSIFIER)
    first = [priors.ranked(num)[0].rank.index(1) for num in (999, 1_000, 10_000)]
    assert first == [0, 1, 2]
