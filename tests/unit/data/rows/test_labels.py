from autofocus.data.rows.labels import label_map, similar_labels


def test_label_map_is_the_union_sorted_by_code_point() -> None:
    training, validation = ["b", "a10", "Z", "é"], ["a2", "b", "10", "9"]
    assert label_map(training, validation) == ["10", "9", "Z", "a10", "a2", "b", "é"]


def test_label_map_of_nothing_is_empty() -> None:
    assert label_map() == []
    assert label_map([], []) == []


def test_names_that_differ_in_case_spaces_or_dashes_are_similar() -> None:
    labels = ["Milk bottle", "can", "milk_bottle", "CAN", "carton", "_"]
    assert similar_labels(labels) == [("Milk bottle", "milk_bottle"), ("can", "CAN")]
