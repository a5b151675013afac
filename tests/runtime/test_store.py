import json
from contextlib import suppress

import pytest

from harness.errors import StoreError
from harness.runtime.store import Store, replacing, write_json


def test_a_file_is_complete_or_absent(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with suppress(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of it, and then" + str(1 / 0))
    assert list(path.parent.iterdir()) == []
    with replacing(path) as temporary:
        temporary.write_text("all of it")
    assert path.read_text() == "all of it"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_a_store_is_driven_by_one_process_at_a_time(tmp_path):
    with (
        Store(tmp_path).locked(),
        pytest.raises(StoreError, match="in use by process"),
        Store(tmp_path).locked(),
    ):
        pass
    with Store(tmp_path).locked():
        pass


def test_a_store_below_a_file_is_refused_and_makes_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not a folder"):
        Store(tmp_path / "file" / "store").check()
    assert (tmp_path / "file").read_text() == ""


def test_looking_at_a_store_makes_nothing(tmp_path):
    store = Store(tmp_path / "none")
    assert store.outcome("abc") is None
    assert store.trained("abc") is None
    assert store.keys("cells") == []
    store.check()
    assert not store.root.exists()


def test_a_model_without_its_weights_is_not_finished(tmp_path):
    store = Store(tmp_path)
    write_json(store.model("abc", "training.json"), {"metrics": {}})
    assert store.trained("abc") is None


def test_a_damaged_outcome_is_named(tmp_path):
    path = Store(tmp_path).cell("abc", "outcome.json")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(StoreError, match=r"outcome\.json"):
        Store(tmp_path).outcome("abc")


def test_what_is_forgotten_is_gone(tmp_path):
    store = Store(tmp_path)
    write_json(store.cell("abc", "outcome.json"), {"a": 1})
    assert json.loads(store.cell("abc", "outcome.json").read_text()) == {"a": 1}
    store.forget_cell("abc")
    store.forget_model("abc")
    assert store.outcome("abc") is None
    assert store.keys("cells") == []
